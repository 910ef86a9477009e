"""One publisher for each video, also where publishers reach several copies of the program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Protocol

from eventsourcing.errors import LeaseTakenError
from eventsourcing.leases import Leases
from monolith.application.leadership import LEASE_SECONDS
from monolith.application.placement import publish_lease


class PublishedElsewhereError(Exception):
    """The video's publisher is connected to another copy of the program."""


class PublishClaims(Protocol):
    """Claims of this copy on the publishers of videos."""

    def claim(self, video_id: str, lost: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Have the video's publisher here within the context. `lost` is called when that cannot be told any more.

        Raises PublishedElsewhereError, StoreUnavailableError.
        """
        ...


class SoleClaims:
    """Of a program that has its data to itself."""

    def claim(self, video_id: str, lost: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class LeasedClaims:
    """A claim is a lease: it ends with the copy that dies."""

    def __init__(self, leases: Leases, owner: str, *, ttl: float = LEASE_SECONDS) -> None:
        self._leases = leases
        self._owner = owner
        self._ttl = ttl

    @asynccontextmanager
    async def claim(self, video_id: str, lost: Callable[[], None]) -> AsyncIterator[None]:
        try:
            async with self._leases.kept(publish_lease(video_id), self._owner, self._ttl, lost=lost):
                yield
        except LeaseTakenError as error:
            raise PublishedElsewhereError(
                "another publisher is connected to another copy of the program with this key"
            ) from error
