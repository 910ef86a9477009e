"""Wires what rebuilds need: within the running program, or alone, without the web framework and the engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from monolith.datadir import DataDirError, DataDirLock
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readmodels.analytics_rebuild import AnalyticsRebuild, LiveAnalytics
from monolith.readmodels.files import Origin
from monolith.readmodels.rebuilding import Live, ReadModelRebuild, Rebuildable
from monolith.readmodels.rebuilds import Rebuilds
from monolith.settings import Settings
from monolith.storage import FileStorage

EVENTS: Final = "events.db"
READ_MODELS: Final = "readmodels.db"
ANALYTICS: Final = "analytics"


def rebuildables(
    store: SqliteEventStore,
    codec: EventCodec,
    folder: Path,
    storage: FileStorage,
    live: Live | None,
    analytics: LiveAnalytics | None = None,
) -> list[Rebuildable]:
    """All that can be built again, in the order in which it is done. `live`, `analytics`: None when no program runs."""
    origin = Origin(store.identity, store.last_position)
    return [
        ReadModelRebuild(
            store, codec, folder / READ_MODELS, origin=origin, live=live, room=storage.room_bytes
        ),
        AnalyticsRebuild(
            store, codec, folder / ANALYTICS, origin=origin, live=analytics, room=storage.room_bytes
        ),
    ]


@asynccontextmanager
async def rebuilding_alone(settings: Settings) -> AsyncIterator[Rebuilds]:
    """The rebuilds of a data directory that this process owns within the context; leaving it interrupts them.

    Raises DataDirError, StoreUnavailableError.
    """
    folder = settings.data_dir.absolute()
    if not await asyncio.to_thread((folder / EVENTS).is_file):
        raise DataDirError(f"there are no events in {folder}; name a data directory that has been used")
    with DataDirLock.acquire(folder):
        store = await open_store(folder / EVENTS)
        try:
            storage = FileStorage(folder, settings.min_free_bytes)
            codec = EventCodec(DOMAIN_EVENTS)
            rebuilds = Rebuilds(rebuildables(store, codec, folder, storage, None), clock=time.time)
            try:
                yield rebuilds
            finally:
                await rebuilds.close()
        finally:
            await store.close()


async def open_store(path: Path) -> SqliteEventStore:
    """Raises StoreUnavailableError, with what would help."""
    try:
        return await SqliteEventStore.open(path)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{path}: {error}; put back a sound copy of this file, or name another data directory"
        ) from error
