"""A segment's work from claim to close: what earlier attempts left is kept, the rest is done, nothing twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from monolith.application.attempt import Attempt, Resources
from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.ingestion import require_unchanged
from monolith.application.ports import Clock, Storage
from monolith.application.segment_log import SegmentLog
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import CompleteSegment, FailSegment
from monolith.domain.events import RunRequested, SegmentClosed, VideoProbed
from monolith.domain.jobs import SegmentJob
from monolith.domain.run import Run
from monolith.domain.segment import SegmentPlan
from monolith.domain.video import Video
from monolith.ingest.messages import DecodeSegment, ReadStored, SegmentDone, StoredFrameSource

_FIRST_PAUSE: Final = 0.5
"""Seconds before a segment is tried again; doubled with each further failure in a row."""
_LONGEST_PAUSE: Final = 30.0

logger = logging.getLogger(__name__)


class SegmentPipeline:
    """Does `SegmentJob`s. Safe to run again for the same job after any interruption."""

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
        self._streams = streams
        self._store = store
        self._codec = codec
        self._storage = storage
        self._resources = resources
        self._clock = clock
        self._owner = owner
        self._attempts_allowed = attempts_allowed

    async def run(self, job: SegmentJob) -> None:
        """Analyse the segment, or go on with it, and record its end. A failed attempt is recorded, not raised.

        Raises SupersededError when another attempt has taken over, EnvironmentFailure, EventStoreErrors.
        """
        video = await self._streams.load(job.video_id)
        run = video.runs.get(job.run_id)
        if run is None or not run.active or job.segment in run.completed or video.probe is None:
            return
        log = await SegmentLog.open(self._store, self._codec, job)
        try:
            if log.closed is None:
                self._storage.require_room()
                await self._storage.prepare_video(job.video_id)
                await log.claim(self._owner, self._clock())
                await _SegmentWork(self, log, video, run.request).close()
        except (SourceFailure, RetryableFailure) as error:
            await self._failed(log, run, error)
            return
        await self._completed(log)

    async def _completed(self, log: SegmentLog) -> None:
        closed = log.closed
        assert closed is not None
        command = CompleteSegment(
            at=self._clock(),
            run_id=closed.run_id,
            segment=closed.segment,
            frames=closed.frames,
            dropped=closed.dropped,
            last_frame=closed.last_frame,
            end_of_source=closed.end_of_source,
        )
        await self._streams.execute(closed.video_id, command)

    async def _failed(self, log: SegmentLog, run: Run, error: SourceFailure | RetryableFailure) -> None:
        self._storage.require_room()  # a full disk is no fault of the segment's: it is tried again when there is room
        job = log.job
        failures = run.failures_with(job.segment, log.settled())
        logger.warning(
            "segment %d of run %s, attempt %d, failure %d in a row: %s",
            job.segment, job.run_id, log.attempt, failures.count, error,
        )  # fmt: skip
        if isinstance(error, RetryableFailure):
            await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (failures.count - 1), _LONGEST_PAUSE))
        command = FailSegment(
            at=self._clock(),
            run_id=job.run_id,
            segment=job.segment,
            attempt=log.attempt,
            reason=str(error),
            permanent=isinstance(error, SourceFailure),
            attempts_allowed=self._attempts_allowed,
            settled=log.settled(),
        )
        await self._streams.execute(job.video_id, command)


class _SegmentWork:
    """The work of one attempt."""

    def __init__(self, pipeline: SegmentPipeline, log: SegmentLog, video: Video, run: RunRequested) -> None:
        assert video.probe is not None
        self._log = log
        self._probe: VideoProbed = video.probe
        self._plan: SegmentPlan = next(p for p in video.segments if p.segment == log.job.segment)
        self._run = run
        self._storage = pipeline._storage
        self._pack = f"{log.job.segment:06d}-{log.job.run_id}-{log.attempt:03d}.mjpeg"
        self._attempt = Attempt(log, run, self._pack, pipeline._resources)

    async def close(self) -> None:
        """Do what is left, then append SegmentClosed."""
        await self._judge_stored()
        done = await self._decode() if self._must_decode() else None
        complete = self._log.complete_frames(self._run.models)
        closed = SegmentClosed(
            video_id=self._log.job.video_id,
            run_id=self._log.job.run_id,
            segment=self._log.job.segment,
            attempt=self._log.attempt,
            frames=len(complete),
            dropped=len(self._log.given_up() - complete),
            last_frame=self._plan.last_frame if done is None or self._indexed else done.last_frame,
            end_of_source=done is not None and done.end_of_source and not self._indexed,
        )
        await self._log.append_results([closed])

    @property
    def _indexed(self) -> bool:
        return self._probe.source.indexed

    def _sampled(self) -> range:
        """The frame numbers that the run samples in an indexed segment."""
        assert self._plan.last_frame is not None
        step = self._run.frame_step
        first = -(-self._plan.first_frame // step) * step
        return range(first, self._plan.last_frame + 1, step)

    def _must_decode(self) -> bool:
        """A sequential source is always decoded to the segment's end: only that tells where the end is."""
        return not self._indexed or any(not self._is_known(number) for number in self._sampled())

    def _is_known(self, number: int) -> bool:
        return number in self._log.stored or self._log.is_settled(number, self._run.models)

    async def _judge_stored(self) -> None:
        """Frames that an earlier attempt, or another run, has stored and this run has not judged."""
        open_frames = [
            StoredFrameSource(frame, str(self._pack_path(pack)))
            for number, (frame, pack) in sorted(self._log.stored.items())
            if number % self._run.frame_step == 0 and not self._log.is_settled(number, self._run.models)
        ]
        if open_frames:
            done = await self._attempt.judge(ReadStored(tuple(open_frames)))
            await self._drop(done.missing, "the stored picture could not be read")

    async def _decode(self) -> SegmentDone:
        skip = {*self._log.stored, *self._log.dropped.get(None, ())}
        request = DecodeSegment(
            path=self._probe.path,
            scan_path=str(self._storage.scan_path(self._log.job.video_id)),
            pts_digest=self._probe.source.pts_digest,
            first_frame=self._plan.first_frame,
            last_frame=self._plan.last_frame,
            frame_step=self._run.frame_step,
            skip=tuple(sorted(skip)),
            pack_path=str(self._pack_path(self._pack)),
            max_height=self._run.max_height,
            jpeg_quality=self._run.jpeg_quality,
            infer_from=self._run.infer_from,
        )
        await require_unchanged(self._probe)
        done = await self._attempt.judge(request)
        await self._drop(done.missing, "; ".join(["the picture could not be decoded", *done.warnings]))
        return done

    async def _drop(self, numbers: Sequence[int], reason: str) -> None:
        lost = [number for number in numbers if not self._log.is_settled(number, self._run.models)]
        if lost:
            await self._log.append_frames([self._attempt.dropped(lost, reason)])

    def _pack_path(self, pack: str) -> Path:
        return self._storage.pack_path(self._log.job.video_id, pack)
