from __future__ import annotations

import asyncio

import pytest

from monolith.application.publish_claims import LeasedClaims, PublishedElsewhereError, SoleClaims
from tests.unit.application.sharing_world import Shared

VIDEO = "v"


async def test_who_is_alone_has_every_publisher() -> None:
    async with SoleClaims().claim(VIDEO, lambda: None):
        pass


async def test_a_publisher_is_refused_while_another_copy_has_one() -> None:
    shared = Shared()
    one, other = LeasedClaims(shared.leases, "a"), LeasedClaims(shared.leases, "b")
    async with one.claim(VIDEO, lambda: None):
        with pytest.raises(PublishedElsewhereError, match="another copy"):
            async with other.claim(VIDEO, lambda: None):
                pass
        async with other.claim("another video", lambda: None):
            pass
    async with other.claim(VIDEO, lambda: None):
        assert await shared.leases.holder("publish-v") == "b"


async def test_a_claim_that_is_lost_is_told() -> None:
    shared = Shared()
    lost = asyncio.Event()
    async with asyncio.timeout(20), LeasedClaims(shared.leases, "a", ttl=0.3).claim(VIDEO, lost.set):
        await shared.take("publish-v")
        await lost.wait()
