"""Puts the program together: the only module that knows every adapter. Tests pass their own settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventStoreError
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.store import DurableEventStore
from monolith.access.control import AccessControl
from monolith.access.refusals import Refusals
from monolith.access.startup import open_access
from monolith.adapters import ProjectionGate
from monolith.api.app import create_app
from monolith.api.services import ApiServices, Limits
from monolith.application.handlers import VideoHandlers
from monolith.application.open_videos import OpenVideos, load_open_videos
from monolith.application.tracing import NoTracing, Tracing
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.analytics import running_analytics, tell_failure
from monolith.bootstrap.annotated import annotated_jpeg, running_annotated
from monolith.bootstrap.data import (
    ANALYTICS,
    check_folders,
    open_store,
    prepare_folders,
    storage_of,
    watch_store,
)
from monolith.bootstrap.engines import concurrent_segments, start_engines
from monolith.bootstrap.handlers import video_handlers
from monolith.bootstrap.live import publishing_of
from monolith.bootstrap.measuring import measure
from monolith.bootstrap.messaging import Messaging, messaging_of
from monolith.bootstrap.parts import Data, Extras, Work
from monolith.bootstrap.playback import viewers_of
from monolith.bootstrap.read_models import running_read_models
from monolith.bootstrap.rebuild import rebuildables
from monolith.bootstrap.retention import retention_of, scheduled
from monolith.bootstrap.segment_queue import broker_of
from monolith.bootstrap.sharing import sharing_of
from monolith.bootstrap.tracing import projection_with_spans, store_with_spans, tracing_of, wanted
from monolith.bootstrap.webhooks import dispatching, running_webhooks
from monolith.bootstrap.work import Foundations, process_manager
from monolith.datadir import DataDirLock
from monolith.disk_watch import DiskWatch
from monolith.domain.events import DOMAIN_EVENTS
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.rtmp_server import RtmpServer
from monolith.loop_monitor import LoopMonitor
from monolith.observed import (
    ObservedProjection,
    ObservedStore,
)
from monolith.projection_lag import WatchedProjection, watch
from monolith.readiness import readiness_checks
from monolith.readmodels.analytics_rebuild import LiveAnalytics
from monolith.readmodels.rebuilding import Live
from monolith.readmodels.rebuilds import Rebuilds
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings
from monolith.storage import SnapshotFile
from monolith.store_guard import claim_folder
from monolith.work_metrics import WorkMetrics

T = TypeVar("T")

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
        rtmp: RtmpServer | None,
    ) -> None:
        """`local_token`: a key that lets in this program's own user; "" where none is asked for."""
        self.local_token = local_token
        self.settings = settings
        self.app = app
        self.services = services
        self.handlers = handlers
        self.lock = lock
        self.rtmp = rtmp
        """To be served beside HTTP."""


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
        self._storage = storage_of(settings)
        shared = () if settings.shared_dir is None else (settings.shared_folder,)
        self._disk = DiskWatch(folder, self._storage.min_free_bytes, others=shared)
        self._secrets = SecretUrls(settings.shared_folder)
        self._work = WorkMetrics(self._registry)
        self._watched: list[WatchedProjection] = []
        self._frame_times = FrameTimes()
        self._stopping = asyncio.Event()
        self._broker = broker_of(settings)
        self._tracing: Tracing = NoTracing()

    async def build(self, lock: DataDirLock) -> Program:
        await asyncio.to_thread(check_folders, self._folder)
        await asyncio.to_thread(prepare_folders, self._settings, self._storage)
        access = await open_access(self._settings)
        refusals = Refusals(access.failures, self._registry)
        self._tracing = await self._enter(tracing_of(self._settings))
        data = await self._open_data()
        work = await self._start_work(data, refusals)
        extras = await self._start_extras(data, work)
        services = self._services(access, refusals, data, work, extras)
        measure(self._registry, self._folder, self._watched, self._disk, data, work, extras)
        await self._start_tasks(data.store, work, data.projection, access, extras.messaging)
        token = access.keys.issue_local() if access.keys else ""
        rtmp = work.publishing.rtmp
        return Program(self._settings, create_app(services), services, work.handlers, lock, token, rtmp)

    async def _open_data(self) -> Data:
        store = await open_store(self._settings)
        self._stack.push_async_callback(store.close)
        if self._settings.shared_dir is not None and self._settings.kurrentdb_uri.get_secret_value():
            await asyncio.to_thread(claim_folder, self._settings.shared_folder, store.identity)
        read_models, projection = await self._enter(
            running_read_models(store, self._codec, self._folder, self._observed)
        )
        parked = lambda: read_models.projection.parked  # noqa: E731
        self._watched.append(WatchedProjection(projection, lambda: store.last_position, parked))
        analytics, watched = await self._enter(
            running_analytics(store, self._codec, self._folder / ANALYTICS)
        )
        self._watched.append(watched)
        rebuilds = self._rebuilds(store, Live(read_models, projection), analytics)
        return Data(store, read_models, projection, analytics, rebuilds)

    def _observed(self, projection: Projection) -> Projection:
        return projection_with_spans(ObservedProjection(projection, self._work), self._tracing)

    def _rebuilds(self, store: DurableEventStore, live: Live, analytics: LiveAnalytics) -> Rebuilds:
        what = rebuildables(store, self._codec, self._folder, self._storage, live, analytics)
        rebuilds = Rebuilds(what, clock=time.time)
        self._stack.push_async_callback(rebuilds.close)
        return rebuilds

    async def _start_work(self, data: Data, refusals: Refusals) -> Work:
        observed = ObservedStore(data.store, self._work)
        sharing = await self._enter(sharing_of(self._settings, observed))
        store = store_with_spans(observed, self._tracing)
        streams = VideoStreams(store, self._codec)
        snapshots = SnapshotFile(self._folder, data.store.identity)
        open_videos = await load_open_videos(data.store, snapshots)
        engines = await start_engines(
            self._stack, self._settings, self._registry, self._work, self._disk,
            max_height=await self._greatest_height(open_videos, streams), watcher=self._frame_times.note,
            tracing=self._tracing,
        )  # fmt: skip
        handlers = video_handlers(self._settings, store, streams, data.projection, self._secrets)
        publishing = await publishing_of(
            self._stack, self._settings, self._folder, handlers, streams, self._secrets,
            sharing.claims, refusals,
        )  # fmt: skip
        base = Foundations(
            self._settings,
            store,
            self._codec,
            streams,
            self._storage,
            self._secrets,
            publishing,
            self._work,
            sharing,
            self._broker,
            self._tracing,
        )
        segments = concurrent_segments(self._settings)
        manager, queue = process_manager(base, engines, open_videos, snapshots, segments=segments)
        publishing.sources.when_published = manager.publisher_came
        return Work(store, streams, engines, manager, handlers, publishing, sharing, queue)

    async def _start_extras(self, data: Data, work: Work) -> Extras:
        annotated = await self._enter(running_annotated(self._settings, data.read_models, self._storage))
        retention = await self._enter(
            retention_of(
                work.store, self._codec, work.streams, self._storage, data.read_models,
                ProjectionGate(data.projection), self._folder, analytics=ProjectionGate(data.analytics.runner),
            )
        )  # fmt: skip
        schedule = await self._enter(scheduled(self._settings, retention, work.sharing.leadership))
        feeds = work.publishing.sources.feeds
        viewers = viewers_of(self._settings, feeds, data.store, self._codec, self._frame_times)
        webhooks = await self._enter(
            running_webhooks(self._settings, work.store, self._codec, data.store.identity)
        )
        dispatcher = await self._enter(dispatching(webhooks, work.sharing.leadership))
        messaging = await self._enter(
            messaging_of(
                self._broker,
                data.store,
                self._codec,
                work.handlers,
                work.sharing,
                self._disk.check,
                self._tracing,
            )
        )
        return Extras(
            annotated, retention, schedule, await self._enter(viewers), webhooks, dispatcher, messaging
        )

    async def _enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter `context`; it is left with the program."""
        return await self._stack.enter_async_context(context)

    def _services(
        self, access: AccessControl, refusals: Refusals, data: Data, work: Work, extras: Extras
    ) -> ApiServices:
        inference = work.engines.inference
        return ApiServices(
            handlers=work.handlers,
            read_models=data.read_models,
            store=data.store,
            decoder=self._codec,
            read_frame=self._storage.read_frame,
            annotate=annotated_jpeg,
            uploads=self._storage.uploads,
            registry=self._registry,
            public_url=self._settings.public_url or None,
            loopback_only=self._settings.serves_this_machine_only,
            access=access,
            refusals=refusals,
            log_requests=self._settings.logs_requests,
            room_bytes=self._storage.room_bytes,
            no_room=self._disk.check,
            readiness=readiness_checks(
                data.store,
                inference,
                self._watched[0],
                self._disk,
                self._stopping,
                self._broker,
                shared=work.sharing.leases is not None,
            ),
            limits=Limits(upload_bytes=self._settings.max_upload_bytes),
            rebuilds=data.rebuilds,
            retention=extras.retention,
            retention_schedule=extras.schedule,
            stopping=self._stopping,
            annotated=extras.annotated,
            analytics=data.analytics.analytics,
            viewers=extras.viewers,
            push_sources=work.publishing.sources,
            webrtc=work.publishing.webrtc,
            rtmp=work.publishing.rtmp,
            webhooks=extras.webhooks.service,
            tracing=self._tracing if wanted(self._tracing) else None,
        )

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

    async def _start_tasks(
        self,
        store: DurableEventStore,
        work: Work,
        projection: ProjectionRunner,
        access: AccessControl,
        messaging: Messaging | None,
    ) -> None:
        """The vital tasks: when one fails, the context's body is cancelled and the failure raised."""
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        tasks = [
            group.create_task(work.manager.run(), name="process manager"),
            group.create_task(projection.wait(), name="read models"),
            group.create_task(work.engines.inference.join(), name="inference"),
            group.create_task(LoopMonitor(self._registry).run(), name="loop monitor"),
            group.create_task(self._disk.run(), name="disk watch"),
            group.create_task(watch(self._watched), name="projection watch"),
            group.create_task(tell_failure(self._watched[1].runner), name="analytics files"),
        ]
        if work.sharing.leases is not None:
            tasks.append(group.create_task(watch_store(store), name="identity of the event store"))
        if work.segment_queue is not None:
            tasks.append(group.create_task(work.segment_queue.run(), name="shared segments"))
        if messaging is not None:
            tasks.append(group.create_task(messaging.relay.run(), name="relay"))
            tasks.append(group.create_task(messaging.commands.run(), name="commands"))
        if access.keys is not None:
            tasks.append(group.create_task(access.keys.watch(), name="API keys"))
        self._stack.push_async_callback(_cancel, tasks)
        await work.manager.wait_until_started(_CATCH_UP_SECONDS)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait(tasks)
