"""Lets go of what is old: whole segments expire, their files and streams are purged, their sums stay.

Rules:
- One retention runs at a time.
- What may go is decided from events; the read models only say where to look.
- Expiring is done here, purging by the process manager: it goes on by itself after a crash. A retention that was
  interrupted and is run again ends in the same state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.store import EventStore
from monolith.application.expiring import Counted, Expiring
from monolith.application.ports import Clock, Storage
from monolith.application.purge_watch import PurgeWatch
from monolith.application.retention_report import (
    DAY_SECONDS,
    RetentionReport,
    RetentionRequest,
    State,
    Trigger,
    VideoShare,
)
from monolith.application.video_stream import VideoStreams
from monolith.domain.errors import InvalidRequestError, NotPossibleError
from monolith.domain.events import SegmentsPurged
from monolith.domain.video import Video

Purger: TypeAlias = Callable[[str], Awaitable[None]]
"""Purges what has expired of a video."""

logger = logging.getLogger(__name__)


class Candidate(msgspec.Struct, frozen=True):
    """Segments of a video that may be old enough."""

    video_id: str
    video_name: str
    segments: Sequence[int]


class RetentionView(Protocol):
    """What the read models are asked."""

    async def segments_before(self, newest_at: float) -> list[Candidate]:
        """Segments that have not expired and to which, it seems, nothing happened since `newest_at` (Unix seconds):
        none is missing, some may be too many."""
        ...

    async def until_removed(self, commit_position: int) -> None:
        """Until the expiries up to there are seen and no row of them is left; nor an analytics file, as far as that
        comes in time."""
        ...


class Reports(Protocol):
    """Where the last report is kept."""

    async def load(self) -> RetentionReport | None: ...

    async def save(self, report: RetentionReport) -> None: ...


class Retention:
    """Use it with `async with`: leaving interrupts a retention that runs, and waits for its end."""

    def __init__(
        self,
        store: EventStore,
        codec: EventCodec,
        streams: VideoStreams,
        storage: Storage,
        view: RetentionView,
        reports: Reports,
        clock: Clock,
        *,
        purger: Purger | None = None,
    ) -> None:
        """`purger`: purges here, where no process manager runs."""
        self._store = store
        self._codec = codec
        self._expiring = Expiring(store, codec, streams, clock)
        self._streams = streams
        self._storage = storage
        self._view = view
        self._reports = reports
        self._clock = clock
        self._purger = purger
        self._task: asyncio.Task[None] | None = None
        self.report: RetentionReport | None = None
        """Of the one that runs, or of the last one."""

    async def __aenter__(self) -> Retention:
        self.report = await self._reports.load()
        if self.report is not None and self.report.state == "running":
            self._end(self.report, "failed", "interrupted: the program ended")
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def start(self, request: RetentionRequest, trigger: Trigger = "request") -> RetentionReport:
        """Begin; the report is brought up to date while it runs.

        Raises InvalidRequestError, and NotPossibleError while another one runs.
        """
        await self._check_kept(request.keep, strict=trigger == "request")
        if self.running:
            raise NotPossibleError("a retention runs already; start another when it has ended")
        now = self._clock()
        self.report = report = RetentionReport(
            trigger=trigger, dry_run=request.dry_run, days=request.days, keep=tuple(sorted(request.keep)),
            older_than=now - request.days * DAY_SECONDS, started_at=now,
        )  # fmt: skip
        self._task = asyncio.create_task(self._run(report), name="retention")
        return report

    async def wait(self, timeout: float | None = None) -> None:
        """Until none runs, or `timeout` seconds have passed."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=timeout)

    async def _check_kept(self, video_ids: frozenset[str], *, strict: bool) -> None:
        """A wrong id would let go what is to be kept. A schedule, though, outlives the videos that it names."""
        for video_id in sorted(video_ids):
            if (await self._streams.load(video_id)).exists:
                continue
            if strict:
                raise InvalidRequestError(
                    f"keep: there is no video {video_id}; GET /analysis/videos?status=all lists those that there are",
                    field="keep",
                )
            logger.warning("retention: there is no video %s to keep", video_id)

    async def _run(self, report: RetentionReport) -> None:
        try:
            await self._reports.save(report)
            await self._let_go(report)
            self._end(report, "done")
        except asyncio.CancelledError:
            self._end(report, "failed", "interrupted")
            raise
        except (StoreUnavailableError, OSError, TimeoutError) as error:
            logger.warning("the retention failed: %s", error)
            self._end(report, "failed", str(error) or type(error).__name__)
        except Exception as error:
            logger.exception("the retention failed")
            self._end(report, "failed", f"the retention failed ({type(error).__name__}); the log says why")
        finally:
            await self._reports.save(report)

    def _end(self, report: RetentionReport, state: State, error: str | None = None) -> None:
        """What has expired by now is purged, whatever the end."""
        report.state, report.error, report.phase, report.ended_at = state, error, "ended", self._clock()

    async def _let_go(self, report: RetentionReport) -> None:
        found = await self._view.segments_before(report.older_than)
        wanted = [one for one in found if one.video_id not in report.keep]
        report.candidates = sum(len(one.segments) for one in wanted)
        report.phase = "expiring"
        if report.dry_run:
            for candidate in wanted:
                await self._measure(candidate, report)
        else:
            await self._expire_all(wanted, report)
        logger.info(
            "retention%s: %d segments of %d videos, %d frames, %d bytes",
            " (only asked)" if report.dry_run else "", report.segments, report.videos, report.frames,
            report.bytes_freed,
        )  # fmt: skip

    async def _expire_all(self, wanted: Sequence[Candidate], report: RetentionReport) -> None:
        def purged(event: SegmentsPurged) -> None:
            report.purged += len(event.segments)
            report.free(event.video_id, event.bytes_freed)

        analytics: dict[str, int] = {}
        async with PurgeWatch(self._store, self._codec, purged) as watch:
            for candidate in wanted:
                await self._expire(candidate, report, watch, analytics)
            report.phase = "purging"
            await watch.until_all_purged()
            if watch.position is not None:
                await self._view.until_removed(watch.position)
        await self._count_analytics(report, analytics)

    async def _count_analytics(self, report: RetentionReport, before: Mapping[str, int]) -> None:
        """`before`: what the analytics files of the videos took. An analysis that goes on adds to them meanwhile."""
        for video_id, size in before.items():
            freed = size - await self._storage.analytics_bytes(video_id)
            report.free(video_id, max(0, freed))

    async def _expire(
        self, candidate: Candidate, report: RetentionReport, watch: PurgeWatch, analytics: dict[str, int]
    ) -> None:
        """`analytics`: gets what the video's analytics files take before something of them goes."""
        video = await self._load(candidate, report)
        if video is None:
            return
        share: VideoShare | None = None
        async for counted in self._expiring.count(video, candidate.segments, report.older_than):
            if counted.segments:
                if video.video_id not in analytics:
                    analytics[video.video_id] = await self._storage.analytics_bytes(video.video_id)
                event = await self._expiring.expire(video.video_id, counted.segments, report.older_than)
                if event is not None:
                    share = share or report.new_video(video.video_id, candidate.video_name)
                    report.count(share, event.segments)
                    watch.expect(event)
            self._looked_at(report, counted)
        if self._purger is not None and share is not None:
            await self._purger(video.video_id)

    async def _measure(self, candidate: Candidate, report: RetentionReport) -> None:
        """What would go."""
        video = await self._load(candidate, report)
        if video is None:
            return
        share: VideoShare | None = None
        going: set[int] = set()
        async for counted in self._expiring.count(video, candidate.segments, report.older_than):
            if counted.segments:
                share = share or report.new_video(video.video_id, candidate.video_name)
                report.count(share, counted.segments)
                going.update(one.segment for one in counted.segments)
            self._looked_at(report, counted)
        if going:
            report.free(video.video_id, await self._bytes_of(video, going))

    async def _bytes_of(self, video: Video, segments: set[int]) -> int:
        assert video.submitted is not None
        all_go = len(video.expired) + len(segments) == len(video.segments)
        if all_go and video.planned and not video.active_runs():
            return await self._storage.measure_video(video.video_id, video.submitted.location)
        return await self._storage.measure_segments(video.video_id, segments)

    async def _load(self, candidate: Candidate, report: RetentionReport) -> Video | None:
        """None for a video that is gone, or that cannot be read."""
        video = None
        try:
            video = await self._streams.load(candidate.video_id)
        except StoreUnavailableError:
            raise
        except EventStoreError as error:
            logger.warning("retention: video %s cannot be read: %s", candidate.video_id, error)
            report.unreadable += len(candidate.segments)
        if video is not None and video.exists:
            return video
        report.looked_at += len(candidate.segments)
        return None

    def _looked_at(self, report: RetentionReport, counted: Counted) -> None:
        report.looked_at += counted.looked_at
        report.unreadable += len(counted.unreadable)
