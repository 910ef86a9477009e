"""Puts the program together: the only module that knows every adapter. Tests pass their own settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import EventStore
from monolith.access.control import AccessControl
from monolith.access.startup import describe_tls, known_to_this_machine, open_access, open_tls
from monolith.adapters import CheckedFetcher, PoolDecoders, PooledInference, ProjectionGate
from monolith.api.app import create_app
from monolith.api.http_protocol import ClientConnections
from monolith.api.server import ApiServer
from monolith.api.services import ApiServices, Limits
from monolith.application.attempt import Resources
from monolith.application.following import Following
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.ingestion import Ingestion
from monolith.application.judging import MAX_HELD_LIVE, MAX_LENT
from monolith.application.open_videos import OpenVideos, Snapshots, load_open_videos
from monolith.application.pipeline import SegmentPipeline
from monolith.application.process_manager import CONCURRENT_LIVE_STEPS, ProcessManager
from monolith.application.purge import Purge
from monolith.application.segments import Segments
from monolith.application.source_access import SourceAccesses
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap_analytics import running_analytics, tell_failure
from monolith.bootstrap_annotated import running_annotated
from monolith.bootstrap_rebuild import ANALYTICS, READ_MODELS, rebuildables
from monolith.bootstrap_retention import retention_of, scheduled
from monolith.datadir import DataDirLock
from monolith.disk_watch import DiskWatch, SlotsWhileRoom
from monolith.domain.detection import Detection
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.models import MODEL_KEYS
from monolith.frames.annotate import annotate
from monolith.frames.jpeg import decode, encode
from monolith.inference.pool import WorkerPool
from monolith.inference.service import InferenceService, ServiceLimits
from monolith.inference.shared_memory import FrameSlots, SlotPool
from monolith.inference.sizing import (
    Sizing,
    available_cores,
    available_memory,
    live_slot_count,
    size_workers,
    slot_count,
)
from monolith.inference.supervisor import PoolLimits, WorkerLaunch
from monolith.inference.worker import WorkerConfig
from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.fetch import Fetcher, FetchLimits
from monolith.ingest.messages import SourceAccess
from monolith.loop_monitor import LoopMonitor
from monolith.machine_metrics import (
    add_process_metrics,
    child_readings,
    database_readings,
    disk_readings,
    log_readings,
)
from monolith.metrics import (
    ReadingsCollector,
    annotated_readings,
    decoder_readings,
    followed_readings,
    inference_readings,
    projection_readings,
    rebuild_readings,
    store_readings,
    work_readings,
)
from monolith.observed import (
    ObservedDecoders,
    ObservedFetcher,
    ObservedInference,
    ObservedProjection,
    ObservedStore,
)
from monolith.projection_lag import WatchedProjection, watch
from monolith.readiness import readiness_checks
from monolith.readmodels.analytics_rebuild import LiveAnalytics
from monolith.readmodels.catching_up import caught_up
from monolith.readmodels.files import Origin
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import Live
from monolith.readmodels.rebuilds import Rebuilds
from monolith.secret_urls import SecretUrls
from monolith.service_manager import ServiceManager
from monolith.settings import Settings, service_manager
from monolith.shutdown import Ending
from monolith.storage import FileStorage, SnapshotFile
from monolith.work_metrics import WorkMetrics

_ANNOTATED_QUALITY: Final = 90
EVENTS: Final = "events.db"
_CONCURRENT_FETCHES: Final = 4
_WIDEST_SLOT: Final = 2.4
"""Slots hold pictures of up to this aspect ratio (21:9) at full height; wider ones are scaled down to fit."""

logger = logging.getLogger(__name__)
_CATCH_UP_SECONDS: Final = 600.0


class Program:
    """The running program, for the server, the command line and tests."""

    def __init__(
        self,
        settings: Settings,
        app: FastAPI,
        services: ApiServices,
        handlers: VideoHandlers,
        lock: DataDirLock,
        local_token: str,
    ) -> None:
        """`local_token`: a key that lets in this program's own user; "" where none is asked for."""
        self.local_token = local_token
        self.settings = settings
        self.app = app
        self.services = services
        self.handlers = handlers
        self.lock = lock


@asynccontextmanager
async def running_program(settings: Settings) -> AsyncIterator[Program]:
    """Everything started and recovered; leaving ends it all, unfinished work goes on at the next start.

    Raises DataDirError, AccessError, WorkerStartError, StoreUnavailableError; and, inside the context, what ends a
    vital task.
    """
    async with AsyncExitStack() as stack:
        # One after another: what is entered first is needed by what comes later, and ends after it.
        folder = settings.data_dir.absolute()
        lock = stack.enter_context(DataDirLock.acquire(folder))
        builder = _Builder(settings, folder, stack)
        program = await builder.build(lock)
        yield program


class _Builder:
    """Builds the program piece by piece."""

    def __init__(self, settings: Settings, folder: Path, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._folder = folder
        self._stack = stack
        self._registry = CollectorRegistry()
        self._codec = EventCodec(DOMAIN_EVENTS)
        self._storage = FileStorage(folder, settings.min_free_bytes)
        self._disk = DiskWatch(folder, self._storage.min_free_bytes)
        self._secrets = SecretUrls(folder)
        self._work = WorkMetrics(self._registry)
        self._watched: list[WatchedProjection] = []
        self._stopping = asyncio.Event()
        self._segments = settings.max_concurrent_segments or max(2, _sizing(settings).workers)
        self._live_sources = settings.max_live_sources

    async def build(self, lock: DataDirLock) -> Program:
        await asyncio.to_thread(self._storage.prepare)
        access = await open_access(self._settings)
        store = await self._open_store()
        self._stack.push_async_callback(store.close)
        origin = Origin(store.identity, store.last_position)
        read_models = await ReadModels.open(self._folder / READ_MODELS, self._codec, origin=origin)
        self._stack.push_async_callback(read_models.close)
        projection = await self._project(store, read_models)
        analytics, watched = await self._stack.enter_async_context(
            running_analytics(store, self._codec, self._folder / ANALYTICS)
        )
        self._watched.append(watched)
        rebuilds = self._rebuilds(store, Live(read_models, projection), analytics)
        observed = ObservedStore(store, self._work)
        streams = VideoStreams(observed, self._codec)
        snapshots = SnapshotFile(self._folder, store.identity)
        open_videos = await load_open_videos(store, snapshots)
        max_height = await self._greatest_height(open_videos, streams)
        resources, service, pools = await self._start_inference(max_height)
        manager = self._process_manager(observed, streams, resources, open_videos, snapshots)
        handlers = self._handlers(observed, streams, projection)
        annotated = await self._stack.enter_async_context(
            running_annotated(self._settings, self._folder, read_models, self._storage)
        )
        retention = await self._stack.enter_async_context(
            retention_of(
                observed, self._codec, streams, self._storage, read_models, ProjectionGate(projection),
                self._folder,
            )
        )  # fmt: skip
        schedule = await self._stack.enter_async_context(scheduled(self._settings, retention))
        services = ApiServices(
            handlers=handlers,
            read_models=read_models,
            store=store,
            decoder=self._codec,
            read_frame=self._storage.read_frame,
            annotate=annotated_jpeg,
            uploads=self._storage.uploads,
            registry=self._registry,
            public_url=self._settings.public_url or None,
            loopback_only=self._settings.serves_this_machine_only,
            access=access,
            log_requests=self._settings.logs_requests,
            room_bytes=self._storage.room_bytes,
            no_room=self._disk.check,
            readiness=readiness_checks(store, service, self._watched[0], self._disk, self._stopping),
            limits=Limits(upload_bytes=self._settings.max_upload_bytes),
            rebuilds=rebuilds,
            retention=retention,
            retention_schedule=schedule,
            stopping=self._stopping,
            annotated=annotated,
            analytics=analytics.analytics,
        )
        readings = [
            *work_readings(manager, pools),
            *followed_readings(manager, self._decoders),
            *inference_readings(service),
            *store_readings(store),
            *projection_readings(self._watched),
            *disk_readings(self._disk),
            *log_readings(),
            *annotated_readings(annotated),
            *rebuild_readings(rebuilds),
        ]
        ReadingsCollector(self._registry, readings)
        add_process_metrics(self._registry)
        databases = {"events": self._folder / EVENTS, "read_models": self._folder / READ_MODELS}
        ReadingsCollector(self._registry, database_readings(databases), blocking=True)
        await self._start_tasks(manager, projection, service, access)
        token = access.keys.issue_local() if access.keys else ""
        return Program(self._settings, create_app(services), services, handlers, lock, token)

    async def _open_store(self) -> SqliteEventStore:
        path = self._folder / EVENTS
        try:
            return await SqliteEventStore.open(path)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{path}: {error}; put back a sound copy of this file, or name another data directory"
            ) from error

    async def _project(self, store: SqliteEventStore, read_models: ReadModels) -> ProjectionRunner:
        """The read models as they were at the last event: an answer is never older than the program's start."""
        runner = ProjectionRunner(store, ObservedProjection(read_models.projection, self._work))
        parked = lambda: read_models.projection.parked  # noqa: E731
        self._watched.append(WatchedProjection(runner, lambda: store.last_position, parked))
        await self._stack.enter_async_context(runner)
        head = await store.head()
        if head is not None:
            await caught_up(runner, head)
        return runner

    def _rebuilds(self, store: SqliteEventStore, live: Live, analytics: LiveAnalytics) -> Rebuilds:
        what = rebuildables(store, self._codec, self._folder, self._storage, live, analytics)
        rebuilds = Rebuilds(what, clock=time.time)
        self._stack.push_async_callback(rebuilds.close)
        return rebuilds

    async def _greatest_height(self, open_videos: OpenVideos, streams: VideoStreams) -> int:
        """Of the frames that new and unfinished runs store, in pixels: the setting may have changed meanwhile."""
        heights = [self._settings.frame_max_height]
        for video_id in open_videos:
            try:
                video = await streams.load(video_id)
            except EventStoreError:
                logger.warning("video %s cannot be read", video_id)  # the process manager sets it aside
                continue
            heights += [run.request.max_height for run in video.active_runs()]
        return max(heights)

    async def _start_inference(
        self, max_height: int
    ) -> tuple[Resources, InferenceService, dict[str, SlotPool]]:
        settings = self._settings
        sizing = _sizing(settings)
        slots, for_files = _frame_slots(sizing, self._segments, max_height, settings.max_live_sources)
        self._live_sources = min(settings.max_live_sources, (slots.count - for_files) // 2)
        if self._live_sources < settings.max_live_sources:
            logger.warning("memory holds the frames of %d live sources at once, not more", self._live_sources)
        self._stack.callback(slots.close)
        service = _inference_service(settings, sizing, slots)
        self._stack.push_async_callback(service.close)
        decoders = DecoderPool(slots, self._decoder_processes(), silence_timeout=settings.decoder_deadline)
        await self._stack.enter_async_context(decoders)
        ReadingsCollector(self._registry, decoder_readings(decoders))
        await service.start()
        logger.info("%d inference workers of %d threads are ready", sizing.workers, sizing.threads)
        slot_pool, live_pool = SlotPool(for_files), SlotPool(slots.count - for_files, first=for_files)
        port = PoolDecoders(decoders, probe_deadline=settings.probe_deadline)
        self._decoders = ObservedDecoders(port, self._work)
        lent, lent_live = (SlotsWhileRoom(pool, self._disk.until_room) for pool in (slot_pool, live_pool))
        inference = ObservedInference(PooledInference(service), self._work)
        children = {"decoder": lambda: decoders.pids, "worker": service.pids}
        ReadingsCollector(self._registry, child_readings(children), blocking=True)
        pools = {"files": slot_pool, "live": live_pool}
        return Resources(self._decoders, lent, inference, lent_live), service, pools

    def _decoder_processes(self) -> int:
        """At most: for files, sources with an end and live ones at work; and to look at new ones, or end them."""
        return 2 * self._segments + _CONCURRENT_FETCHES + self._live_sources + 2 * CONCURRENT_LIVE_STEPS

    def _process_manager(
        self,
        store: EventStore,
        streams: VideoStreams,
        resources: Resources,
        open_videos: OpenVideos,
        snapshots: Snapshots,
    ) -> ProcessManager:
        accesses = SourceAccesses(self._secrets, self._source_access())
        ingestion = Ingestion(
            streams,
            ObservedFetcher(CheckedFetcher(self._fetcher()), self._work),
            resources.decoders,
            self._storage,
            accesses,
            time.time,
            segment_seconds=self._settings.segment_seconds,
            live_silence=self._settings.live_silence,
            live_probes=CONCURRENT_LIVE_STEPS,
        )
        segments = Segments(
            streams,
            store,
            self._codec,
            self._storage,
            resources,
            time.time,
            owner=f"{socket.gethostname()}/{os.getpid()}",
            attempts_allowed=self._settings.segment_attempts,
        )
        following = Following(
            segments,
            accesses,
            segment_seconds=self._settings.segment_seconds,
            live_silence=self._settings.live_silence,
        )
        return ProcessManager(
            store,
            streams,
            ingestion,
            SegmentPipeline(segments),
            following,
            Purge(streams, store, self._storage, self._secrets, time.time),
            open_videos,
            snapshots,
            time.time,
            concurrent_segments=self._segments,
            concurrent_fetches=_CONCURRENT_FETCHES,
            live_sources=self._live_sources,
            keep_sources=self._settings.keep_sources,
        )

    def _source_access(self) -> SourceAccess:
        """What may be connected to for a source that is followed; the URL is to be filled in."""
        settings = self._settings
        return SourceAccess(
            url="",
            transport="rtsp",
            loopback_only=settings.serves_this_machine_only,
            networks=tuple(map(str, settings.allowed_networks)),
            rtsp_transport=settings.rtsp_transport,
            connect_timeout=settings.fetch_connect_timeout,
            read_timeout=settings.fetch_read_timeout,
            max_bytes=settings.max_source_bytes,
        )

    def _fetcher(self) -> Fetcher:
        settings = self._settings
        policy = AddressPolicy(settings.serves_this_machine_only, settings.allowed_networks)
        limits = FetchLimits(
            max_bytes=settings.max_source_bytes,
            connect_timeout=settings.fetch_connect_timeout,
            read_timeout=settings.fetch_read_timeout,
            total_timeout=settings.fetch_timeout,
            min_rate=settings.fetch_min_rate,
            min_free_bytes=settings.min_free_bytes,
        )
        return Fetcher(policy, limits)

    def _handlers(
        self, store: EventStore, streams: VideoStreams, projection: ProjectionRunner
    ) -> VideoHandlers:
        options = FrameOptions(
            max_height=self._settings.frame_max_height,
            jpeg_quality=self._settings.jpeg_quality,
            infer_from=self._settings.infer_from,
        )
        return VideoHandlers(streams, store, ProjectionGate(projection), self._secrets, options, time.time)

    async def _start_tasks(
        self,
        manager: ProcessManager,
        projection: ProjectionRunner,
        service: InferenceService,
        access: AccessControl,
    ) -> None:
        """The vital tasks: when one fails, the context's body is cancelled and the failure raised."""
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        tasks = [
            group.create_task(manager.run(), name="process manager"),
            group.create_task(projection.wait(), name="read models"),
            group.create_task(service.join(), name="inference"),
            group.create_task(LoopMonitor(self._registry).run(), name="loop monitor"),
            group.create_task(self._disk.run(), name="disk watch"),
            group.create_task(watch(self._watched), name="projection watch"),
            group.create_task(tell_failure(self._watched[1].runner), name="analytics files"),
        ]
        if access.keys is not None:
            tasks.append(group.create_task(access.keys.watch(), name="API keys"))
        self._stack.push_async_callback(_cancel, tasks)
        await manager.wait_until_started(_CATCH_UP_SECONDS)


def _sizing(settings: Settings) -> Sizing:
    return size_workers(
        available_cores(),
        available_memory(),
        workers=settings.workers or None,
        threads=settings.worker_threads or None,
    )


def _frame_slots(sizing: Sizing, segments: int, max_height: int, live_sources: int) -> tuple[FrameSlots, int]:
    """All slots, and how many of them, from the first on, are for files; the others are for live sources."""
    slot_bytes = 3 * max_height * int(max_height * _WIDEST_SLOT)
    memory = available_memory()
    for_files = slot_count(
        workers=sizing.workers,
        depth=PoolLimits().depth,
        max_batch_size=ServiceLimits().max_batch_size,
        decoders=segments,
        slots_per_decoder=MAX_LENT,
        slot_bytes=slot_bytes,
        memory=memory,
    )
    live = live_slot_count(
        sources=live_sources,
        slots_per_source=MAX_HELD_LIVE,
        taken=for_files,
        slot_bytes=slot_bytes,
        memory=memory,
    )
    return FrameSlots.create(for_files + live, slot_bytes), for_files


def _inference_service(settings: Settings, sizing: Sizing, slots: FrameSlots) -> InferenceService:
    config = WorkerConfig(
        models=MODEL_KEYS,
        threads=sizing.threads,
        precision=settings.precision,
        infer_from=settings.infer_from,
    )
    launch = WorkerLaunch(
        config=config, slots_fd=slots.fd, slot_count=slots.count, slot_bytes=slots.slot_bytes
    )
    limits = PoolLimits(
        start_timeout=settings.worker_start_deadline, batch_timeout=settings.worker_batch_deadline
    )
    return InferenceService(WorkerPool(launch, workers=sizing.workers, limits=limits), MODEL_KEYS)


@asynccontextmanager
async def serving(program: Program) -> AsyncIterator[tuple[ApiServer, str]]:
    """The HTTP server over a running program, and its URL.

    Raises OSError when the address cannot be used, AccessError when the certificate cannot.
    """
    settings = program.settings
    tls = await asyncio.to_thread(open_tls, settings)
    if tls is not None:
        logger.info("%s", describe_tls(tls))
    server = await ApiServer.start(
        program.app,
        stopping=program.services.stopping,
        host=settings.host,
        port=settings.port,
        graceful_seconds=max(1, int(settings.shutdown_deadline / 2)),  # the rest is for what ends after it
        clients=ClientConnections(settings.max_connections_per_client),
        tls=tls.context if tls else None,
    )
    try:
        async with known_to_this_machine(settings.data_dir.absolute(), program.local_token, tls):
            settings = settings.model_copy(update={"port": server.port})
            program.lock.announce(settings.local_url)
            yield server, settings.url
    finally:
        await server.stop()


async def serve(
    program: Program, ending: Ending, *, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve HTTP until `ending` is asked for, by a signal too; `on_ready` is told the URL. Leaves `ending` begun.

    Raises OSError as `serving` does, and what ends the server by itself.
    """
    manager = ServiceManager(service_manager())
    ending.take_signals()
    async with serving(program) as (server, url):
        ending.on_hurried = server.hurry
        on_ready(url)
        manager.ready(f"serving {url}")
        try:
            await _first_of(ending.asked.wait(), server.wait(), manager.keep_alive())
        finally:
            program.services.stopping.set()
            ending.begin()
            manager.stopping()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` ends, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait(tasks)


def annotated_jpeg(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    """A stored JPEG with boxes, labels and swatches drawn. Blocks: for threads."""
    return encode(annotate(decode(jpeg), detections), _ANNOTATED_QUALITY)
