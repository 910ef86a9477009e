"""The API over real HTTP, with the real handlers, projection and read models over an event store in memory.

Only the pictures are simple: packs are kept in a dictionary, and drawing appends the labels behind the JPEG's end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.api.app import create_app
from monolith.api.server import ApiServer
from monolith.api.services import ApiServices, Limits
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.purge import Purge
from monolith.application.push_sources import PushSources
from monolith.application.retention import Retention
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.retention import retention_of
from monolith.bootstrap.webhooks import running_webhooks
from monolith.domain.detection import Detection
from monolith.domain.events import DOMAIN_EVENTS, DomainEvent
from monolith.domain.jobs import PurgeSegmentsJob
from monolith.exports.annotated import AnnotatedVideos
from monolith.exports.files import AnnotatedFiles
from monolith.exports.making import Maker
from monolith.live.feeds import LiveFeeds
from monolith.live.playback.broadcast import PlaybackOptions
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.playback.results import LiveResults
from monolith.live.playback.sessions import Viewers
from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.publishers import WebRtcPublishers
from monolith.live.webrtc.publishing import WebRtcOptions
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import Live, ReadModelRebuild
from monolith.readmodels.rebuilds import Rebuilds
from monolith.readmodels.rendering import label_of
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings
from monolith.storage import FileStorage, FrameGoneError
from tests.program import plain_client

DEADLINE = 60.0


class Api:
    """A running API. `pictures`: pack name → its bytes."""

    def __init__(self, services: ApiServices, store: MemoryEventStore, runner: ProjectionRunner) -> None:
        self.services = services
        self.store = store
        self.runner = runner
        self.pictures: dict[str, bytes] = {}
        self.reasons: dict[str, str] = {}
        self.room = 1 << 62
        self.server: ApiServer
        self.app: FastAPI
        self.client: httpx.AsyncClient

    async def happened(self, *streamed: tuple[str, DomainEvent]) -> int:
        """Append events to their streams and wait until they are projected; the last commit position."""
        codec, position = EventCodec(DOMAIN_EVENTS), 0
        for stream, event in streamed:
            result = await self.store.append(stream, [codec.encode(event)], expected_version=ANY)
            position = result.commit_position
        await self.runner.wait_for(position, DEADLINE)
        return position

    def answer_by(self, services: ApiServices) -> None:
        """Answer by other services from now on."""
        self.app.state.services = services

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    def read_frame(self, video_id: str, pack: str, offset: int, length: int) -> bytes:
        if pack not in self.pictures:
            raise FrameGoneError(pack)
        return self.pictures[pack][offset : offset + length]

    async def ready(self) -> str | None:
        return self.reasons.get("models")


class _Entrance(NamedTuple):
    """RTMP publishers would come in there."""

    port: int = 1935
    problem: str = ""
    public_url: str | None = None


def annotate(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    return jpeg + ",".join(map(label_of, detections)).encode()


def annotated_videos(
    folder: Path,
    models: ReadModels,
    room_bytes: Callable[[], int] = lambda: 1 << 62,
    *,
    most_bytes: int = 1 << 30,
    **limits: int,
) -> AnnotatedVideos:
    """Those of the data directory `folder`, by real encoder processes. `limits`: of AnnotatedVideos."""
    storage = FileStorage(folder)
    files = AnnotatedFiles(folder, storage.annotated_folder, most_bytes=most_bytes, room_bytes=room_bytes)
    return AnnotatedVideos(models, Maker(models, files, storage.pack_path), files, **limits)


def retention_over(
    store: MemoryEventStore, models: ReadModels, runner: ProjectionRunner, folder: Path
) -> Retention:
    """It purges by itself: there is no process manager."""
    codec, storage = EventCodec(DOMAIN_EVENTS), FileStorage(folder)
    streams = VideoStreams(store, codec)
    purge = Purge(streams, store, storage, SecretUrls(folder), time.time)
    return retention_of(
        store, codec, streams, storage, models, runner, folder,
        purger=lambda video_id: purge.run_segments(PurgeSegmentsJob(video_id)),
    )  # fmt: skip


def nobody_watches(store: MemoryEventStore, codec: EventCodec) -> Viewers:
    """Nothing is live."""
    results = LiveResults(store, codec, FrameTimes())
    return Viewers(LiveFeeds(), results, IceOptions(interfaces=("lo",)), PlaybackOptions())


@asynccontextmanager
async def running_api(
    folder: Path, *, limits: Limits | None = None, public_url: str | None = None, **changes: Any
) -> AsyncIterator[Api]:
    """`changes`: of ApiServices."""
    async with AsyncExitStack() as stack:
        store, codec = MemoryEventStore(), EventCodec(DOMAIN_EVENTS)
        stack.push_async_callback(store.close)
        models = await ReadModels.open(folder / "read.db", codec)
        stack.push_async_callback(models.close)
        runner = await stack.enter_async_context(ProjectionRunner(store, models.projection))
        rebuild = ReadModelRebuild(store, codec, folder / "read.db", live=Live(models, runner))
        rebuilds = Rebuilds([rebuild], clock=time.time)
        stack.push_async_callback(rebuilds.close)
        streams, secrets, feeds = VideoStreams(store, codec), SecretUrls(folder), LiveFeeds()
        handlers = VideoHandlers(
            streams,
            store,
            runner,
            secrets,
            FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored"),
            time.time,
        )
        retention = await stack.enter_async_context(retention_over(store, models, runner, folder))
        webhooks = await stack.enter_async_context(
            running_webhooks(Settings(data_dir=folder), store, codec, "00000000-0000-7000-8000-000000000000")
        )
        uploads = folder / "uploads"
        uploads.mkdir()
        sources = PushSources(handlers, streams, secrets, feeds)
        api: Api
        services = ApiServices(
            handlers=handlers,
            read_models=models,
            store=store,
            decoder=codec,
            read_frame=lambda *place: api.read_frame(*place),
            annotate=annotate,
            uploads=uploads,
            registry=CollectorRegistry(),
            public_url=public_url,
            readiness={"models": lambda: api.ready()},
            limits=limits or Limits(),
            stopping=asyncio.Event(),
            room_bytes=lambda: api.room,
            rebuilds=rebuilds,
            retention=retention,
            annotated=await stack.enter_async_context(
                annotated_videos(folder, models, lambda: api.room, waiting=10_000)
            ),
            push_sources=sources,
            rtmp=_Entrance(),
            webhooks=webhooks.service,
            webrtc=await stack.enter_async_context(WebRtcPublishers(sources, WebRtcOptions())),
            viewers=await stack.enter_async_context(nobody_watches(store, codec)),
        )
        services = replace(services, **changes)
        api = Api(services, store, runner)
        api.app = create_app(services)
        api.server = await ApiServer.start(api.app, stopping=services.stopping, port=0)
        stack.push_async_callback(api.server.stop)
        url = f"http://127.0.0.1:{api.server.port}"
        api.client = await stack.enter_async_context(plain_client(base_url=url, timeout=DEADLINE))
        yield api
