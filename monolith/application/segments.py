"""What all work on segments shares: how an attempt begins, how it ends, and what is done with stored frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from monolith.application.attempt import Attempt, Resources
from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.ports import Clock, Storage
from monolith.application.segment_log import SegmentLog
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import CompleteSegment, FailSegment
from monolith.domain.events import RunRequested
from monolith.domain.jobs import SegmentJob
from monolith.domain.run import Run
from monolith.ingest.messages import ReadStored, StoredFrameSource

_FIRST_PAUSE: Final = 0.5
"""Seconds before a segment is tried again; doubled with each further failure in a row."""
_LONGEST_PAUSE: Final = 30.0

logger = logging.getLogger(__name__)


class Segments:
    """Attempts at segments, from claim to end."""

    def __init__(
        self,
        streams: VideoStreams,
        store: EventStore,
        codec: EventCodec,
        storage: Storage,
        resources: Resources,
        clock: Clock,
        *,
        owner: str,
        attempts_allowed: int,
    ) -> None:
        self.streams = streams
        self.storage = storage
        self.resources = resources
        self.clock = clock
        self._store = store
        self._codec = codec
        self._owner = owner
        self._attempts_allowed = attempts_allowed

    async def open(self, job: SegmentJob) -> SegmentLog:
        """What earlier attempts have left."""
        return await SegmentLog.open(self._store, self._codec, job)

    async def claim(self, log: SegmentLog) -> str:
        """Open the next attempt; the name of its pack. Raises SupersededError, EnvironmentFailure."""
        self.storage.require_room()
        await self.storage.prepare_video(log.job.video_id)
        await log.claim(self._owner, self.clock())
        return f"{log.job.segment:06d}-{log.job.run_id}-{log.attempt:03d}.mjpeg"

    async def judge_stored(self, log: SegmentLog, run: RunRequested, pack: str) -> None:
        """Have frames judged that an earlier attempt, or another run, has stored and this run has not judged."""
        open_frames = [
            StoredFrameSource(frame, str(self.storage.pack_path(log.job.video_id, name)))
            for number, (frame, name) in sorted(log.stored.items())
            if number % run.frame_step == 0 and not log.is_settled(number, run.models)
        ]
        if open_frames:
            done = await Attempt(log, run, pack, self.resources).judge(ReadStored(tuple(open_frames)))
            await self.drop(log, run, done.missing, "the stored picture could not be read")

    async def drop(self, log: SegmentLog, run: RunRequested, numbers: Iterable[int], reason: str) -> None:
        """Give up those of the frames that are not settled."""
        await log.give_up((n for n in numbers if not log.is_settled(n, run.models)), reason)

    async def completed(self, log: SegmentLog) -> None:
        """Tell the video that a segment is closed."""
        closed = log.closed
        assert closed is not None
        command = CompleteSegment(
            at=self.clock(),
            run_id=closed.run_id,
            segment=closed.segment,
            frames=closed.frames,
            dropped=closed.dropped,
            last_frame=closed.last_frame,
            end_of_source=closed.end_of_source,
        )
        await self.streams.execute(closed.video_id, command)

    async def failed(self, log: SegmentLog, run: Run, error: SourceFailure | RetryableFailure) -> None:
        """Tell the video that an attempt failed, after a pause where it is going to be tried again."""
        self.storage.require_room()  # a full disk is no fault of the segment's: it is tried again when there is room
        job = log.job
        failures = run.failures_with(job.segment, log.settled())
        logger.warning(
            "segment %d of run %s, attempt %d, failure %d in a row: %s",
            job.segment, job.run_id, log.attempt, failures.count, error,
        )  # fmt: skip
        if isinstance(error, RetryableFailure):
            await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (failures.count - 1), _LONGEST_PAUSE))
        command = FailSegment(
            at=self.clock(),
            run_id=job.run_id,
            segment=job.segment,
            attempt=log.attempt,
            reason=str(error),
            permanent=isinstance(error, SourceFailure),
            attempts_allowed=self._attempts_allowed,
            settled=log.settled(),
        )
        await self.streams.execute(job.video_id, command)
