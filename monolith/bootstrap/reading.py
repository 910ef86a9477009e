"""Wires the API for reading alone: over a data directory that no server holds, without the engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from monolith.adapters import ProjectionGate
from monolith.api.app import create_app
from monolith.api.services import ApiServices
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.analytics import running_analytics
from monolith.bootstrap.annotated import running_annotated
from monolith.bootstrap.data import ANALYTICS, READ_MODELS, owned_data
from monolith.domain.events import DOMAIN_EVENTS
from monolith.frames.annotate import annotate
from monolith.frames.jpeg import decode, encode
from monolith.readmodels.catching_up import caught_up
from monolith.readmodels.files import Origin
from monolith.readmodels.queries import ReadModels
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings
from monolith.storage import FileStorage


@asynccontextmanager
async def reading_alone(settings: Settings) -> AsyncIterator[FastAPI]:
    """The API of a data directory that this process owns within the context. Nothing is analysed.

    Raises DataDirError, StoreUnavailableError, ProjectionStoppedError, TimeoutError.
    """
    async with AsyncExitStack() as stack:
        folder, store = await stack.enter_async_context(owned_data(settings))
        codec = EventCodec(DOMAIN_EVENTS)
        origin = Origin(store.identity, store.last_position)
        models = await ReadModels.open(folder / READ_MODELS, codec, origin=origin)
        stack.push_async_callback(models.close)
        runner = await stack.enter_async_context(ProjectionRunner(store, models.projection))
        await caught_up(runner, store.last_position)
        analytics, _ = await stack.enter_async_context(running_analytics(store, codec, folder / ANALYTICS))
        storage = FileStorage(folder, settings.min_free_bytes)
        await asyncio.to_thread(storage.prepare)
        annotated = await stack.enter_async_context(running_annotated(settings, folder, models, storage))
        options = FrameOptions(
            max_height=settings.frame_max_height,
            jpeg_quality=settings.jpeg_quality,
            infer_from=settings.infer_from,
        )
        services = ApiServices(
            handlers=VideoHandlers(
                VideoStreams(store, codec),
                store,
                ProjectionGate(runner),
                SecretUrls(folder),
                options,
                time.time,
            ),
            read_models=models,
            store=store,
            decoder=codec,
            read_frame=storage.read_frame,
            annotate=lambda jpeg, detections: encode(
                annotate(decode(jpeg), detections), settings.jpeg_quality
            ),
            uploads=storage.uploads,
            registry=CollectorRegistry(),
            public_url=settings.public_url or None,
            room_bytes=storage.room_bytes,
            analytics=analytics.analytics,
            annotated=annotated,
        )
        yield create_app(services)
