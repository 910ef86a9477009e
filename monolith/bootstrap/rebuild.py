"""Wires what rebuilds need: within the running program, or alone, without the web framework and the engines."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventsourcing.codec import EventCodec
from eventsourcing.store import DurableEventStore
from monolith.bootstrap.data import ANALYTICS, READ_MODELS, owned_data, storage_of
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readmodels.analytics_rebuild import AnalyticsRebuild, LiveAnalytics
from monolith.readmodels.files import Origin
from monolith.readmodels.rebuilding import Live, ReadModelRebuild, Rebuildable
from monolith.readmodels.rebuilds import Rebuilds
from monolith.settings import Settings
from monolith.storage import FileStorage


def rebuildables(
    store: DurableEventStore,
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
    async with owned_data(settings) as (folder, store):
        storage = storage_of(settings)
        codec = EventCodec(DOMAIN_EVENTS)
        rebuilds = Rebuilds(rebuildables(store, codec, folder, storage, None), clock=time.time)
        try:
            yield rebuilds
        finally:
            await rebuilds.close()
