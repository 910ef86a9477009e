"""Decides what happens next, from events alone.

It follows all `video-…` streams from where its open videos were counted. While it catches up it only counts; when it
has caught up it looks at every video that is not finished, and from then on at each video that something happens to.
What is to be done follows from the video's state (`next_jobs`), so a restart after any crash finds the same jobs; jobs
are safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import EventStore
from monolith.application.following import Following
from monolith.application.ingestion import Ingestion
from monolith.application.leadership import Leadership, SoleLeadership
from monolith.application.log_context import in_words
from monolith.application.open_videos import PREFIX, OpenVideos, Snapshots, video_id_of
from monolith.application.pipeline import SegmentPipeline
from monolith.application.placement import ElsewhereError, Placement, SolePlacement
from monolith.application.ports import Clock, Publishers, SegmentQueue
from monolith.application.purge import Purge
from monolith.application.put_off import PutOff
from monolith.application.scheduler import Lane, Scheduler
from monolith.application.sweeping import sweep_now_and_then
from monolith.application.tracing import JobScope, untraced
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import FailVideo
from monolith.domain.events import Transport
from monolith.domain.jobs import (
    FollowJob,
    Job,
    LookJob,
    ProbeJob,
    PurgeJob,
    PurgeSegmentsJob,
    SegmentJob,
    next_jobs,
)
from monolith.domain.video import Video

_SNAPSHOT_EVENTS: Final = 1000
"""How many events of videos are counted before the counts are kept again."""
_STORE_PAUSE: Final = 1.0
_ELSEWHERE_PAUSE: Final = 1.0
_LONGEST_ELSEWHERE_PAUSE: Final = 5.0
"""Seconds before a job that another copy does is looked at again."""
_MOST_LOOKS: Final = 64
"""A question to a web server takes next to nothing, but a silent one is waited for."""
_MOST_LIVE_PROBES: Final = 256
"""Most of them wait: how many are connected to at the same time is `Ingestion`'s business."""
_LIVE_PROBES: Final = "live_probe"
_PUSHED: Final = "pushed"
_MOST_AWAITED: Final = 10_000
"""Videos whose first publisher is waited for: waiting costs next to nothing."""
_LIVE: Final = "live"
_FINISHING: Final = "live_end"
_MOST_HANDED_OUT: Final = 64
"""Open segments of one run that wait in the queue at the same time."""
CONCURRENT_LIVE_STEPS: Final = 4
"""Live sources that are looked at, or ended, at the same time, each with a decoder process."""

logger = logging.getLogger(__name__)


class ProcessManager:
    """Run it as one task; it ends when cancelled, and its failure is its owner's to see."""

    def __init__(
        self,
        store: EventStore,
        streams: VideoStreams,
        ingestion: Ingestion,
        pipeline: SegmentPipeline,
        following: Following,
        purge: Purge,
        publishers: Publishers,
        open_videos: OpenVideos,
        snapshots: Snapshots,
        clock: Clock,
        *,
        concurrent_segments: int,
        placement: Placement | None = None,
        leadership: Leadership | None = None,
        segment_queue: SegmentQueue | None = None,
        concurrent_fetches: int = 4,
        live_sources: int = 32,
        keep_sources: bool = False,
        scope: JobScope = untraced,
    ) -> None:
        """`scope`: of all jobs but those on segments, which have the pipeline's."""
        self._scope: JobScope = lambda job: untraced(job) if isinstance(job, SegmentJob) else scope(job)
        self._store = store
        self._streams = streams
        self._ingestion = ingestion
        self._pipeline = pipeline
        self._following = following
        self._purge = purge
        self._publishers = publishers
        self._clock = clock
        self._keep_sources = keep_sources
        self._snapshots = snapshots
        self._open = open_videos
        self._uncounted = 0
        self.unreadable: set[str] = set()
        """Videos whose streams cannot be read."""
        self._transports: dict[str, Transport] = {}
        """How the pictures of videos come that are not probed yet, as far as it was asked."""
        self._started = asyncio.Event()
        places: dict[Lane, int] = {
            LookJob: _MOST_LOOKS,
            ProbeJob: concurrent_fetches,
            _LIVE_PROBES: _MOST_LIVE_PROBES,
            _PUSHED: _MOST_AWAITED,
            SegmentJob: concurrent_segments,
            FollowJob: concurrent_segments,
            _LIVE: live_sources,
            _FINISHING: CONCURRENT_LIVE_STEPS,
            PurgeJob: 1,
            PurgeSegmentsJob: 1,
        }
        self._placement = placement or SolePlacement()
        self._leadership = leadership or SoleLeadership()
        self._queue = segment_queue
        self._elsewhere = PutOff(
            lambda job: self._look_at(job.video_id), first=_ELSEWHERE_PAUSE, longest=_LONGEST_ELSEWHERE_PAUSE
        )
        self._put_off = PutOff(lambda job: self._look_at(job.video_id))
        self.scheduler = Scheduler(self._run_job, self._give_up, places, lane_of=_lane_of)

    async def run(self) -> None:
        """Act until cancelled."""
        try:
            async with (
                self._put_off,
                self._elsewhere,
                self.scheduler,
                _at_work(self._follow_leadership()),
                _at_work(self._sweep()),
                self._store.subscribe(after=self._open.position, prefixes=(PREFIX,)) as items,
            ):
                async for item in items:
                    if isinstance(item, CaughtUp):
                        await self._caught_up()
                    else:
                        await self._note(item)
        finally:
            await self._snapshots.save(self._open.snapshot())

    async def wait_until_started(self, timeout: float) -> None:
        """Until every unfinished video has been looked at. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._started.wait()

    def open_videos(self) -> int:
        """Videos with something left to do."""
        return len(self._open)

    async def _caught_up(self) -> None:
        if not self._started.is_set():
            await self._start()
            self._started.set()
        if self._uncounted >= _SNAPSHOT_EVENTS:
            self._uncounted = 0
            await self._snapshots.save(self._open.snapshot())

    async def _start(self) -> None:
        """Before anyone else can submit: sources without a video are leftovers now."""
        videos = await self._load_open_videos()
        if not self._keep_sources and not self.unreadable and not self._placement.shared:
            await self._purge.sweep_sources(videos)
        for video in videos:
            await self._act_on(video)

    async def _load_open_videos(self) -> list[Video]:
        return [video for video_id in self._open if (video := await self._load_video(video_id)) is not None]

    async def _sweep(self) -> None:
        """Later on, where copies share a folder."""
        await self._started.wait()
        if self._placement.shared and not self._keep_sources:
            await sweep_now_and_then(self._purge, self._leadership, self._load_open_videos, self.unreadable)

    async def _follow_leadership(self) -> None:
        """With the leadership, what is to be done changes for every open video."""
        leads = self._leadership.leads
        await self._started.wait()
        while True:
            await self._leadership.wait_for(not leads)
            leads = not leads
            await self._look_at_all(leads)

    async def _look_at_all(self, leads: bool) -> None:
        """As long as this copy leads, or does not: once that changes, what was found for some holds no longer."""
        for video_id in list(self._open):
            if self._leadership.leads != leads:
                return
            await self._look_at(video_id)

    def publisher_came(self, video_id: str) -> None:
        """To this copy: jobs that were another's are looked at again at once."""
        self._elsewhere.hurry(video_id)

    async def _note(self, events: list[RecordedEvent]) -> None:
        self._open.note(events)
        self._uncounted += len(events)
        if self._started.is_set():
            for video_id in dict.fromkeys(map(video_id_of, events)):
                await self._look_at(video_id)

    async def _look_at(self, video_id: str) -> None:
        video = await self._load_video(video_id)
        if video is not None:
            await self._act_on(video)

    async def _load_video(self, video_id: str) -> Video | None:
        """None for a video whose stream cannot be read: it is set aside, the others go on."""
        say = logger.warning
        while True:
            try:
                video = await self._streams.load(video_id)
                return video if video.submitted is not None else None
            except StoreUnavailableError as error:
                say("video %s cannot be read now; it is tried again: %s", video_id, error)
                say = logger.debug
                await asyncio.sleep(_STORE_PAUSE)
            except EventStoreError:
                logger.exception("video %s cannot be read; nothing more is done for it", video_id)
                self.unreadable.add(video_id)
                return None

    async def _act_on(self, video: Video) -> None:
        self._end_needless(video)
        self._publishers.note(video)
        self.scheduler.offer(video.video_id, self._jobs_of(video))
        self._hand_out(video)
        if not video.active_runs():
            self._elsewhere.forget(video.video_id)
        if not video.active_runs() and not self._keep_sources and self._leadership.leads:
            try:
                await self._purge.remove_source(video)
            except OSError as error:
                logger.warning("the source of video %s cannot be removed: %s", video.video_id, error)

    def _jobs_of(self, video: Video) -> list[Job]:
        """What can be done now. How the pictures behind a web address come is asked first: so downloads, and sources
        that give nothing for long, hold up no others."""
        jobs = [job for job in next_jobs(video) if job not in self._put_off and job not in self._elsewhere]
        if not any(isinstance(job, ProbeJob) for job in jobs):
            self._transports.pop(video.video_id, None)
        known = [self._known(job) if _is_to_be_asked(job, video) else job for job in jobs]
        return [job for job in known if self._placement.wants(job)]

    def _hand_out(self, video: Video) -> None:
        """Where copies share the segments of files: which there are. One of the copies hands them out."""
        if self._queue is not None:
            jobs = next_jobs(video, at_most=_MOST_HANDED_OUT)
            self._queue.offer(video, [job for job in jobs if isinstance(job, SegmentJob)])

    def _known(self, job: Job) -> Job:
        transport = self._transports.get(job.video_id)
        if transport is None:
            return LookJob(job.video_id)
        return ProbeJob(job.video_id, live=transport != "file", transport=transport)

    async def _look(self, job: LookJob) -> None:
        transport = await self._ingestion.look(job)
        if transport is not None:
            self._transports[job.video_id] = transport
            await self._look_at(job.video_id)

    def _running(self) -> list[Job]:
        return [*self.scheduler.running(), *(self._queue.running() if self._queue is not None else ())]

    def _end_needless(self, video: Video) -> None:
        for job in self._needless(video):
            self.scheduler.cancel(job)
            if self._queue is not None and isinstance(job, SegmentJob):
                self._queue.cancel(job)

    def _needless(self, video: Video) -> list[Job]:
        """Jobs that run for a run that is over (cancelled, failed in another segment, deleted), or that follow a source
        which is to end."""
        wanted = next_jobs(video)
        active = {run.request.run_id for run in video.active_runs()}
        needless: list[Job] = []
        for job in self._running():
            if job.video_id != video.video_id or isinstance(job, PurgeJob | PurgeSegmentsJob):
                continue
            match job:
                case SegmentJob():
                    over = job.run_id not in active
                case FollowJob():
                    over = job not in wanted
                case _:
                    over = not active
            if over:
                needless.append(job)
        return needless

    async def _run_job(self, job: Job) -> None:
        try:
            async with self._placement.hold(job), self._scope(job):
                await self._do(job)
        except ElsewhereError as error:
            logger.debug("%s: %s", in_words(job), error)
            self._elsewhere.put(job)
        else:
            self._elsewhere.done(job)

    async def _do(self, job: Job) -> None:
        match job:
            case LookJob():
                await self._look(job)
            case ProbeJob():
                await self._ingestion.run(job)
            case SegmentJob():
                await self._pipeline.run(job)
            case FollowJob():
                await self.scheduler.until_ended(self._others_that_follow(job))
                await self._following.run(job)
            case PurgeJob():
                await self.scheduler.until_alone(job)  # a job on its way out may still write files
                await self._until_ended(one for one in self._running() if one.video_id == job.video_id)
                await self._purge.run(job)
                self._put_off.done(job)
            case PurgeSegmentsJob():
                # What expired is written by no active run; the job of one that has just ended may still write files.
                needless = self._needless(await self._streams.load(job.video_id))
                await self.scheduler.until_ended(needless)
                await self._until_ended(needless)
                await self._purge.run_segments(job)
                self._put_off.done(job)

    async def _until_ended(self, jobs: Iterable[Job]) -> None:
        """Until this copy does none of the segments any more that it took from the queue."""
        if self._queue is not None:
            await self._queue.until_ended([job for job in jobs if isinstance(job, SegmentJob)])

    def _others_that_follow(self, job: FollowJob) -> list[Job]:
        """The same video's job on its way out, when its source is to end."""
        running = self.scheduler.running()
        return [
            one
            for one in running
            if isinstance(one, FollowJob) and one.video_id == job.video_id and one != job
        ]

    async def _give_up(self, job: Job, error: Exception) -> None:
        if isinstance(job, PurgeJob | PurgeSegmentsJob):
            pause = self._put_off.put(job)
            logger.error(
                "video %s could not be purged: %s; it is tried again in %.0f s", job.video_id, error, pause
            )
            return
        await self._streams.execute(
            job.video_id, FailVideo(at=self._clock(), reason=str(error) or repr(error))
        )


@asynccontextmanager
async def _at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` is done beside what is done within the context, and ends with it; its failure ends both."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


def _is_to_be_asked(job: Job, video: Video) -> bool:
    submitted = video.submitted
    return (
        isinstance(job, ProbeJob)
        and not job.live
        and submitted is not None
        and submitted.source_kind == "url"
    )


def _lane_of(job: Job) -> Lane:
    """A live source may hold its place for ever: neither files nor the ends of others wait for it."""
    match job:
        case ProbeJob(pushed=True):
            return _PUSHED
        case ProbeJob(live=True):
            return _LIVE_PROBES
        case FollowJob(finish=True):
            return _FINISHING
        case FollowJob(live=True):
            return _LIVE
    return type(job)
