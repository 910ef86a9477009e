"""Wires what retention needs: within the running program, or alone, without the web framework and the engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import time as time_of_day
from pathlib import Path

from eventsourcing.codec import EventCodec
from eventsourcing.store import DurableEventStore, EventStore
from monolith.application.leadership import Leadership
from monolith.application.open_videos import load_open_videos
from monolith.application.ports import ReadModelGate
from monolith.application.purge import Purge
from monolith.application.retention import Purger, Retention
from monolith.application.retention_report import RetentionRequest
from monolith.application.retention_schedule import RetentionPlan, RetentionSchedule
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.analytics import following_analytics
from monolith.bootstrap.data import ANALYTICS, owned_data, prepare_folders, storage_of
from monolith.bootstrap.read_models import running_read_models
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.jobs import PurgeSegmentsJob
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.retention import RetentionQueries
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings
from monolith.storage import FileStorage, RetentionFile, SnapshotFile


def retention_of(
    store: EventStore,
    codec: EventCodec,
    streams: VideoStreams,
    storage: FileStorage,
    read_models: ReadModels,
    gate: ReadModelGate,
    folder: Path,
    *,
    analytics: ReadModelGate | None = None,
    purger: Purger | None = None,
) -> Retention:
    """`analytics`: of the analytics files, where they are kept up to date; `purger`: for a program without a process
    manager."""
    view = RetentionQueries(read_models, gate, analytics)
    return Retention(store, codec, streams, storage, view, RetentionFile(folder), time.time, purger=purger)


@asynccontextmanager
async def scheduled(
    settings: Settings, retention: Retention, leadership: Leadership
) -> AsyncIterator[RetentionSchedule | None]:
    """The daily retention, at work within the context, where this copy leads; None where the settings want none."""
    if not settings.retention_days:
        yield None
        return
    request = RetentionRequest(days=settings.retention_days, keep=frozenset(settings.retention_keep))
    at = time_of_day.fromisoformat(settings.retention_at)
    plan = RetentionPlan(request=request, at=at)
    async with RetentionSchedule(retention, plan, time.time, leadership=leadership) as schedule:
        yield schedule


@asynccontextmanager
async def retaining_alone(settings: Settings) -> AsyncIterator[Retention]:
    """The retention of a data directory that this process owns within the context.

    Raises DataDirError, StoreUnavailableError, ProjectionStoppedError, TimeoutError.
    """
    async with AsyncExitStack() as stack:
        folder, store = await stack.enter_async_context(owned_data(settings))
        codec = EventCodec(DOMAIN_EVENTS)
        read_models, runner = await stack.enter_async_context(running_read_models(store, codec, folder))
        analytics = await stack.enter_async_context(following_analytics(store, codec, folder / ANALYTICS))
        storage, streams = (
            storage_of(settings),
            VideoStreams(store, codec),
        )
        await asyncio.to_thread(prepare_folders, settings, storage)
        purge = Purge(streams, store, storage, SecretUrls(settings.shared_folder), time.time)
        await _finish_purges(store, streams, purge, folder)
        retention = retention_of(
            store, codec, streams, storage, read_models, runner, folder,
            analytics=analytics, purger=lambda video_id: purge.run_segments(PurgeSegmentsJob(video_id)),
        )  # fmt: skip
        yield await stack.enter_async_context(retention)


async def _finish_purges(store: DurableEventStore, streams: VideoStreams, purge: Purge, folder: Path) -> None:
    """What an interrupted retention has left."""
    for video_id in await load_open_videos(store, SnapshotFile(folder, store.identity)):
        if (await streams.load(video_id)).expiries:
            await purge.run_segments(PurgeSegmentsJob(video_id))
