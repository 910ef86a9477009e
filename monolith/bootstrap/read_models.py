"""Wires the read models and what keeps them up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from eventsourcing.codec import EventCodec
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.store import DurableEventStore
from monolith.bootstrap.data import READ_MODELS
from monolith.readmodels.catching_up import caught_up
from monolith.readmodels.files import Origin
from monolith.readmodels.queries import ReadModels


@asynccontextmanager
async def running_read_models(
    store: DurableEventStore,
    codec: EventCodec,
    folder: Path,
    observe: Callable[[Projection], Projection] = lambda projection: projection,
) -> AsyncIterator[tuple[ReadModels, ProjectionRunner]]:
    """Those of the data directory `folder`, kept up to date within the context. They begin as they were at the last
    event: an answer is never older than the program's start. `observe`: wraps their projection.

    Raises StoreUnavailableError, ProjectionStoppedError, TimeoutError.
    """
    origin = Origin(store.identity, store.last_position)
    models = await ReadModels.open(folder / READ_MODELS, codec, origin=origin)
    try:
        async with ProjectionRunner(store, observe(models.projection)) as runner:
            await caught_up(runner, store.last_position)
            yield models, runner
    finally:
        await models.close()
