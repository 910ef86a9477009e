"""Which jobs are this copy's, where several copies of the program share the work.

- The leader looks, probes, purges, and hands out the segments of files.
- A source that is followed belongs to the copy that holds its lease. A pushed one goes to the copy that has the
  publisher's connection: another that waits for a publisher gives it up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final, Protocol

from eventsourcing.errors import LeaseTakenError, StoreUnavailableError
from eventsourcing.leases import Leases
from monolith.application.leadership import LEASE_SECONDS, Leadership
from monolith.domain.jobs import FollowJob, Job, ProbeJob, SegmentJob

_YIELD_SECONDS: Final = 1.0
"""How often a holder without a publisher looks whether another copy has one."""
_SPREAD_SECONDS: Final = 0.1
"""A copy waits so long for each source that it follows already before it takes another: others come first."""
_LONGEST_SPREAD: Final = 3.0


class ElsewhereError(Exception):
    """Another copy does this job."""


class Placement(Protocol):
    """Which jobs this copy does."""

    @property
    def shared(self) -> bool:
        """Whether there may be other copies."""
        ...

    def wants(self, job: Job) -> bool:
        """Whether the job is one for this copy now, as far as is known without asking."""
        ...

    def hold(self, job: Job) -> AbstractAsyncContextManager[None]:
        """Do the job within the context. Raises ElsewhereError, entering or in the midst, when another copy has it."""
        ...


class SolePlacement:
    """Of a program that has its data to itself: all jobs."""

    shared = False

    def wants(self, job: Job) -> bool:
        return True

    def hold(self, job: Job) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class SharedPlacement:
    """`has_publisher`: whether the publisher of a video is connected to this copy. `hands_out`: segments go through a
    queue that all copies serve, and not through this one's scheduler."""

    def __init__(
        self,
        leases: Leases,
        owner: str,
        leadership: Leadership,
        has_publisher: Callable[[str], bool],
        *,
        hands_out: bool,
        ttl: float = LEASE_SECONDS,
    ) -> None:
        self.shared = True
        self._leases = leases
        self._owner = owner
        self._leadership = leadership
        self._has_publisher = has_publisher
        self._hands_out = hands_out
        self._ttl = ttl
        self._followed = 0

    def wants(self, job: Job) -> bool:
        match job:
            case FollowJob() | ProbeJob(pushed=True):
                return True
            case SegmentJob():
                return self._leadership.leads and not self._hands_out
            case _:
                return self._leadership.leads

    def hold(self, job: Job) -> AbstractAsyncContextManager[None]:
        if isinstance(job, FollowJob) or (isinstance(job, ProbeJob) and job.pushed):
            return self._followed_here(job)
        return self._led_here()

    @asynccontextmanager
    async def _led_here(self) -> AsyncIterator[None]:
        """Ends what a leader does that leads no more."""
        if not self._leadership.leads:
            raise ElsewhereError("another copy leads")
        async with _ending_when(lambda: self._leadership.wait_for(False)):
            yield

    @asynccontextmanager
    async def _followed_here(self, job: FollowJob | ProbeJob) -> AsyncIterator[None]:
        pushed = job.pushed
        await self._let_others_first(job.video_id, pushed=pushed)
        lost = asyncio.Event()
        try:
            keeping = self._leases.kept(follow_lease(job.video_id), self._owner, self._ttl, lost=lost.set)
            async with keeping, _ending_when(lambda: self._given_up(job.video_id, lost, pushed=pushed)):
                self._followed += 1
                try:
                    yield
                finally:
                    self._followed -= 1
        except LeaseTakenError as error:
            raise ElsewhereError(str(error)) from error

    async def _let_others_first(self, video_id: str, *, pushed: bool) -> None:
        if pushed and await self._published_elsewhere(video_id):
            raise ElsewhereError("the publisher is connected to another copy")
        if not (pushed and self._has_publisher(video_id)):
            await asyncio.sleep(min(self._followed * _SPREAD_SECONDS, _LONGEST_SPREAD))

    async def _given_up(self, video_id: str, lost: asyncio.Event, *, pushed: bool) -> None:
        """Until the lease is lost, or its video is published to another copy."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_YIELD_SECONDS if pushed else None):
                    await lost.wait()
                return
            with contextlib.suppress(StoreUnavailableError):
                if await self._published_elsewhere(video_id):
                    return

    async def _published_elsewhere(self, video_id: str) -> bool:
        if self._has_publisher(video_id):
            return False
        return await self._leases.holder(publish_lease(video_id)) not in (None, self._owner)


def follow_lease(video_id: str) -> str:
    """Held by the copy that follows the video's source."""
    return f"follow-{video_id}"


def publish_lease(video_id: str) -> str:
    """Held by the copy that the video's publisher is connected to."""
    return f"publish-{video_id}"


@asynccontextmanager
async def _ending_when(over: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Cancel what is done within the context when `over` comes to its end; ElsewhereError is raised then, or what it
    raised."""
    doing = asyncio.current_task()
    assert doing is not None
    cancelled_before = doing.cancelling()
    ended = False

    async def watch() -> None:
        nonlocal ended
        try:
            await over()
        finally:
            if not watching.cancelling():
                ended = True
                doing.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if ended and doing.cancelling() == cancelled_before + 1:
            raise ElsewhereError("another copy does this now") from None
        raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        if ended:
            doing.uncancel()
        if not watching.cancelled() and (error := watching.exception()) is not None:
            raise error
