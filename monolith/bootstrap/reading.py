"""Wires the API for reading alone: over a data directory that no server holds, without the engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from eventsourcing.codec import EventCodec
from monolith.api.app import create_app
from monolith.api.services import ApiServices
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.analytics import running_analytics
from monolith.bootstrap.annotated import annotated_jpeg, running_annotated
from monolith.bootstrap.data import ANALYTICS, owned_data, prepare_folders, storage_of
from monolith.bootstrap.handlers import video_handlers
from monolith.bootstrap.read_models import running_read_models
from monolith.bootstrap.webhooks import running_webhooks
from monolith.domain.events import DOMAIN_EVENTS
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings


@asynccontextmanager
async def reading_alone(settings: Settings) -> AsyncIterator[FastAPI]:
    """The API of a data directory that this process owns within the context. Nothing is analysed.

    Raises DataDirError, StoreUnavailableError, ProjectionStoppedError, TimeoutError.
    """
    async with AsyncExitStack() as stack:
        folder, store = await stack.enter_async_context(owned_data(settings))
        codec = EventCodec(DOMAIN_EVENTS)
        models, runner = await stack.enter_async_context(running_read_models(store, codec, folder))
        analytics, _ = await stack.enter_async_context(running_analytics(store, codec, folder / ANALYTICS))
        storage = storage_of(settings)
        await asyncio.to_thread(prepare_folders, settings, storage)
        annotated = await stack.enter_async_context(running_annotated(settings, models, storage))
        streams = VideoStreams(store, codec)
        webhooks = await stack.enter_async_context(running_webhooks(settings, store, codec, store.identity))
        services = ApiServices(
            handlers=video_handlers(settings, store, streams, runner, SecretUrls(settings.shared_folder)),
            read_models=models,
            store=store,
            decoder=codec,
            read_frame=storage.read_frame,
            annotate=annotated_jpeg,
            uploads=storage.uploads,
            registry=CollectorRegistry(),
            public_url=settings.public_url or None,
            room_bytes=storage.room_bytes,
            analytics=analytics.analytics,
            annotated=annotated,
            webhooks=webhooks.service,
        )
        yield create_app(services)
