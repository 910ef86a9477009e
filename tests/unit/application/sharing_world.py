"""What tests of several copies share: one store with leases, and a copy that may be taken for dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.leases import Leases
from monolith.application.hand_out import SegmentMessage
from monolith.application.segment_claims import SegmentClaims, copy_lease
from monolith.application.segment_log import SegmentLog
from monolith.application.shared_segments import SharedSegments
from monolith.application.video_stream import VideoStreams
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.jobs import SegmentJob
from tests.builders import RUN, VIDEO, complete, probe, source, submit

MESSAGE: Final = SegmentMessage(VIDEO, RUN, 0)
OTHER: Final = SegmentMessage(VIDEO, RUN, 1)


class Shared:
    """One store as its copies see it. `leases` of a copy whose time is right; `later` of one that knows that all leases
    of now have run out."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.leases = Leases(self.store, clock=time.time)
        self.later = Leases(self.store, clock=lambda: time.time() + 1_000)

    async def take(self, name: str, owner: str = "other") -> None:
        """Another copy takes the lease, whoever has it."""
        assert await self.later.acquire(name, owner, 10_000) is not None


class Leading:
    """Leadership that a test gives and takes."""

    def __init__(self, *, leads: bool) -> None:
        self._changed = asyncio.Condition()
        self.leads = leads

    async def wait_for(self, leads: bool) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.leads == leads)

    async def set(self, *, leads: bool) -> None:
        async with self._changed:
            self.leads = leads
            self._changed.notify_all()


class OneVideo(Shared):
    """A video of two segments, and this copy of the program, `me`, whose work on segments is `run`."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = EventCodec(DOMAIN_EVENTS)
        self.streams = VideoStreams(self.store, self.codec)
        self.done: list[SegmentJob] = []
        self.given_up: list[str] = []
        self.run: Callable[[SegmentJob], Awaitable[None]] = self.close
        self.now: Callable[[], float] = time.time

    async def begin(self) -> None:
        await self.streams.execute(VIDEO, submit())
        await self.streams.execute(VIDEO, probe(source()))

    def claims(self, owner: str = "me") -> SegmentClaims:
        return SegmentClaims(self.store, self.codec, self.leases, owner, lambda: self.now())

    def copy(
        self,
        *,
        owner: str = "me",
        run: Callable[[SegmentJob], Awaitable[None]] | None = None,
        places: int = 2,
        longest_hold: float = 60.0,
        patience: float = 60.0,
    ) -> SharedSegments:
        """`run`: instead of `self.run` as it is then."""

        async def give_up(job: SegmentJob, reason: str) -> None:
            self.given_up.append(reason)

        return SharedSegments(
            self.streams, self.claims(owner), run or (lambda job: self.run(job)), give_up,
            places=places, longest_hold=longest_hold, patience=patience,
        )  # fmt: skip

    async def claim(self, owner: str, job: SegmentJob = MESSAGE.job) -> SegmentLog:
        log = await SegmentLog.open(self.store, self.codec, job)
        await log.claim(owner, self.now())
        return log

    async def live(self, owner: str) -> None:
        assert await self.leases.acquire(copy_lease(owner), owner, 1_000) is not None

    async def close(self, job: SegmentJob, owner: str = "me") -> None:
        await self.claim(owner, job)
        await self.streams.execute(VIDEO, complete(job.segment))
        self.done.append(job)

    async def for_ever(self, job: SegmentJob, owner: str = "me") -> None:
        await self.claim(owner, job)
        await asyncio.get_running_loop().create_future()


async def until_claimed(world: OneVideo, message: SegmentMessage = MESSAGE, attempt: int = 1) -> None:
    async with asyncio.timeout(10):
        while (claim := await world.claims().last(message.job)) is None or claim.attempt < attempt:
            await asyncio.sleep(0.01)
