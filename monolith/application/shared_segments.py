"""Does the segments that are handed to this copy of the program, where several share them.

Rules:
- A segment that was delivered before is taken over: whoever had it has lost it. Its holder's next append meets the new
  claim, and it stops.
- Else one that a living copy has claimed is a duplicate: nothing is done for it.
- What this copy does already is not done twice: its end is waited for.
- What the machine cannot do now (disk full, store away) is tried again; after a while others may try.
- A failed attempt is recorded by `run`; the leader hands the segment out anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.application.errors import EnvironmentFailure, RetryableFailure
from monolith.application.hand_out import SegmentMessage
from monolith.application.log_context import fields_of, in_words, log_context
from monolith.application.segment_claims import LONGEST_HOLD, SegmentClaims
from monolith.application.video_stream import VideoStreams
from monolith.domain.errors import SupersededError
from monolith.domain.jobs import SegmentJob

RunSegment: TypeAlias = Callable[[SegmentJob], Awaitable[None]]
GiveUpSegment: TypeAlias = Callable[[SegmentJob, str], Awaitable[None]]

_ATTEMPTS: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_PATIENCE: Final = 60.0
"""Seconds for which this copy keeps what it cannot do now."""

logger = logging.getLogger(__name__)


class SharedSegments:
    """At most `places` at the same time. `give_up` is told of a segment that failed too often without a record."""

    def __init__(
        self,
        streams: VideoStreams,
        claims: SegmentClaims,
        run: RunSegment,
        give_up: GiveUpSegment,
        *,
        places: int,
        longest_hold: float = LONGEST_HOLD,
        patience: float = _PATIENCE,
    ) -> None:
        self.places = places
        self._streams = streams
        self._claims = claims
        self._run = run
        self._give_up = give_up
        self._longest_hold = longest_hold
        self._patience = patience
        self._free = asyncio.Semaphore(places)
        self._running: dict[SegmentJob, asyncio.Task[SegmentMessage | None]] = {}
        self._idle: set[asyncio.Task[object]] = set()

    def running(self) -> list[SegmentJob]:
        return list(self._running)

    def cancel(self, job: SegmentJob) -> None:
        """Nobody wants it done any more: `do` returns."""
        if (task := self._running.get(job)) is not None:
            task.cancel()

    async def until_ended(self, jobs: Iterable[SegmentJob]) -> None:
        """Until none of `jobs` runs as it does now."""
        tasks = [self._running[job] for job in jobs if job in self._running]
        if tasks:
            await asyncio.wait(tasks)

    def cancel_idle(self) -> None:
        """Cancel the tasks whose `do` has not begun to work."""
        for task in list(self._idle):
            task.cancel()

    async def do(self, message: SegmentMessage, *, redelivered: bool) -> SegmentMessage | None:
        """Do the segment until there is nothing more to do, here. What is left for any copy to do, or None.

        `redelivered`: whether somebody had the message before. When it is cancelled, the work has ended.
        """
        me = asyncio.current_task()
        assert me is not None
        self._idle.add(me)
        try:
            while (other := self._running.get(message.job)) is not None:
                await asyncio.wait([other])
            return await self._alone(message, redelivered, begun=lambda: self._idle.discard(me))
        finally:
            self._idle.discard(me)

    async def _alone(
        self, message: SegmentMessage, redelivered: bool, begun: Callable[[], None]
    ) -> SegmentMessage | None:
        work = self._work(message, redelivered, begun)
        task = self._running[message.job] = asyncio.create_task(work, name=in_words(message.job))
        task.add_done_callback(lambda _: self._running.pop(message.job))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        return None if task.cancelled() else task.result()

    async def _work(
        self, message: SegmentMessage, redelivered: bool, begun: Callable[[], None]
    ) -> SegmentMessage | None:
        with log_context(**fields_of(message.job)):
            async with self._free:
                begun()
                return await self._attempts(message, redelivered)

    async def _attempts(self, message: SegmentMessage, redelivered: bool) -> SegmentMessage | None:
        loop = asyncio.get_running_loop()
        give_back_at = loop.time() + self._patience
        pause, failures = _FIRST_PAUSE, 0
        while True:
            try:
                if await self._is_mine(message, redelivered) and not await self._to_its_end(message.job):
                    return await self._given_back(message)
                return None
            except SupersededError as error:
                if await self._is_anothers(message):
                    logger.info("%s is another copy's now: %s", in_words(message.job), error)
                    return None
                logger.warning("%s is tried again: %s", in_words(message.job), error)
            except (EnvironmentFailure, StoreUnavailableError) as error:
                logger.warning("%s waits: %s", in_words(message.job), error)
            except Exception as error:  # one segment's failure must not end the others
                failures += 1
                if await self._is_too_much(message.job, failures, error):
                    return None
            await asyncio.sleep(pause)
            pause, redelivered = min(pause * 2, _LONGEST_PAUSE), False
            if failures == 0 and loop.time() > give_back_at:
                with contextlib.suppress(StoreUnavailableError):
                    return await self._given_back(message)

    async def _is_mine(self, message: SegmentMessage, redelivered: bool) -> bool:
        job = message.job
        video = await self._streams.load(job.video_id)
        run = video.runs.get(job.run_id)
        if run is None or not run.active or job.segment in run.completed:
            return False
        if redelivered:
            return True
        held = await self._claims.held_elsewhere(job, message.after)
        if held:
            logger.info("%s is being done by another copy", in_words(job))
        return not held

    async def _is_anothers(self, message: SegmentMessage) -> bool:
        """Whether who superseded this copy lives. It may have been an append of its own that came late: of an attempt
        that was cut off from the event store."""
        try:
            return await self._claims.held_elsewhere(message.job, message.after)
        except StoreUnavailableError:
            return False

    async def _to_its_end(self, job: SegmentJob) -> bool:
        """False: it takes too long to be held on to."""
        limit = asyncio.timeout(self._longest_hold)
        try:
            async with limit:
                await self._run(job)
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True

    async def _given_back(self, message: SegmentMessage) -> SegmentMessage | None:
        """The message by which any copy may go on. None: another has done so already."""
        claim = await self._claims.last(message.job)
        if claim is not None and claim.owner != self._claims.owner and claim.attempt > message.after:
            return None
        logger.info("%s is given back, to be gone on with", in_words(message.job))
        return msgspec.structs.replace(message, after=max(message.after, claim.attempt if claim else 0))

    async def _is_too_much(self, job: SegmentJob, failures: int, error: Exception) -> bool:
        expected = isinstance(error, RetryableFailure)
        logger.warning(
            "%s failed, try %d of %d: %s", in_words(job), failures, _ATTEMPTS, error, exc_info=not expected
        )
        if failures < _ATTEMPTS:
            return False
        await self._give_up(job, str(error) or repr(error))
        return True
