from __future__ import annotations

import asyncio
import logging

import pytest

from monolith.application.leadership import LeasedLeadership, SoleLeadership
from tests.unit.application.sharing_world import Shared

NAME = "process-manager"


@pytest.fixture
def shared() -> Shared:
    return Shared()


async def test_who_is_alone_leads_for_ever() -> None:
    alone = SoleLeadership()
    assert alone.leads
    await alone.wait_for(True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await alone.wait_for(False)


async def test_one_of_two_leads_and_the_other_follows_it(shared: Shared) -> None:
    async with asyncio.timeout(20), LeasedLeadership(shared.leases, NAME, "b", ttl=3) as other:
        await other.wait_for(True)
        async with LeasedLeadership(shared.leases, NAME, "a", ttl=3) as one:
            while len(await shared.store.read_stream("lease-process-manager")) < 2:
                await asyncio.sleep(0.05)  # renewed, with another waiting
            assert (one.leads, other.leads) == (False, True)
            await other.__aexit__(None, None, None)
            assert not other.leads
            await one.wait_for(True)
            assert await shared.leases.holder(NAME) == "a"


async def test_leaving_gives_it_back(shared: Shared) -> None:
    async with LeasedLeadership(shared.leases, NAME, "a") as leadership:
        await leadership.wait_for(True)
    assert not leadership.leads
    assert await shared.leases.holder(NAME) is None


async def test_who_is_taken_for_dead_leads_no_more(shared: Shared) -> None:
    async with asyncio.timeout(20), LeasedLeadership(shared.leases, NAME, "a", ttl=0.3) as leadership:
        await leadership.wait_for(True)
        await shared.take(NAME)
        await leadership.wait_for(False)
        assert not leadership.leads


async def test_who_lost_it_leads_again_when_it_is_free(shared: Shared) -> None:
    async with asyncio.timeout(20), LeasedLeadership(shared.leases, NAME, "a", ttl=0.3) as leadership:
        await leadership.wait_for(True)
        taken = await shared.later.acquire(NAME, "other", 10_000)
        assert taken is not None
        await leadership.wait_for(False)
        await shared.later.release(taken)
        await leadership.wait_for(True)


async def test_a_store_that_is_away_makes_nobody_leader_until_it_is_back(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "monolith.application.leadership")
    await shared.store.close()
    async with LeasedLeadership(shared.leases, NAME, "a", ttl=0.3) as leadership:
        async with asyncio.timeout(20):
            while len(caplog.records) < 3:
                await asyncio.sleep(0.01)
        assert not leadership.leads
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, "once for each time that it is away"
