"""A segment of a file, from claim to close: what earlier attempts left is kept, the rest is done, nothing twice."""

from __future__ import annotations

from monolith.application.attempt import Attempt
from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.ingestion import require_unchanged
from monolith.application.segment_log import SegmentLog
from monolith.application.segments import Segments
from monolith.application.tracing import JobScope, untraced
from monolith.domain.events import RunRequested, VideoProbed
from monolith.domain.jobs import SegmentJob
from monolith.domain.segment import SegmentPlan
from monolith.domain.video import Video
from monolith.ingest.messages import DecodeSegment, SegmentDone


class SegmentPipeline:
    """Does `SegmentJob`s. Safe to run again for the same job after any interruption."""

    def __init__(self, segments: Segments, scope: JobScope = untraced) -> None:
        self._segments = segments
        self._scope = scope

    async def run(self, job: SegmentJob) -> None:
        """Analyse the segment, or go on with it, and record its end. A failed attempt is recorded, not raised.

        Raises SupersededError when another attempt has taken over, EnvironmentFailure, EventStoreErrors.
        """
        async with self._scope(job):
            await self._run(job)

    async def _run(self, job: SegmentJob) -> None:
        video = await self._segments.streams.load(job.video_id)
        run = video.runs.get(job.run_id)
        if run is None or not run.active or job.segment in run.completed or video.probe is None:
            return
        log = await self._segments.open(job)
        try:
            if log.closed is None:
                pack = await self._segments.claim(log)
                await _SegmentWork(self._segments, log, video, run.request, pack).close()
        except (SourceFailure, RetryableFailure) as error:
            await self._segments.failed(log, run, error)
            return
        await self._segments.completed(log)


class _SegmentWork:
    """The work of one attempt."""

    def __init__(
        self, segments: Segments, log: SegmentLog, video: Video, run: RunRequested, pack: str
    ) -> None:
        assert video.probe is not None
        self._segments = segments
        self._log = log
        self._probe: VideoProbed = video.probe
        self._plan: SegmentPlan = video.segments[log.job.segment]
        self._run = run
        self._pack = pack

    async def close(self) -> None:
        """Do what is left, then append SegmentClosed."""
        await self._segments.judge_stored(self._log, self._run, self._pack)
        done = await self._decode() if self._must_decode() else None
        await self._log.close(
            self._run.models,
            last_frame=self._plan.last_frame if done is None or self._indexed else done.last_frame,
            end_of_source=done is not None and done.end_of_source and not self._indexed,
        )

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

    async def _decode(self) -> SegmentDone:
        video_id, storage = self._log.job.video_id, self._segments.storage
        request = DecodeSegment(
            path=self._probe.path,
            scan_path=str(storage.scan_path(video_id)),
            pts_digest=self._probe.source.pts_digest,
            first_frame=self._plan.first_frame,
            last_frame=self._plan.last_frame,
            frame_step=self._run.frame_step,
            skip=self._log.not_wanted(),
            pack_path=str(storage.pack_path(video_id, self._pack)),
            max_height=self._run.max_height,
            jpeg_quality=self._run.jpeg_quality,
            infer_from=self._run.infer_from,
        )
        await require_unchanged(self._probe)
        done = await Attempt(self._log, self._run, self._pack, self._segments.resources).judge(request)
        reason = "; ".join(["the picture could not be decoded", *done.warnings])
        await self._segments.drop(self._log, self._run, done.missing, reason)
        return done
