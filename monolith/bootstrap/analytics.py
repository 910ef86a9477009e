"""Wires the analytics files and what keeps them up to date."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import DurableEventStore
from monolith.datadir import DataDirError
from monolith.projection_lag import WatchedProjection
from monolith.readmodels.analytics import BATCH_SIZE, Analytics, AnalyticsProjection
from monolith.readmodels.analytics_rebuild import LiveAnalytics
from monolith.readmodels.catching_up import caught_up
from monolith.readmodels.files import Origin

logger = logging.getLogger(__name__)


@asynccontextmanager
async def running_analytics(
    store: DurableEventStore, codec: EventCodec, root: Path
) -> AsyncIterator[tuple[LiveAnalytics, WatchedProjection]]:
    """The files at `root`, kept up to date within the context. Nobody waits for them: what they do not hold yet comes
    from the read models.

    Raises DataDirError, StoreUnavailableError.
    """
    try:
        analytics = await Analytics.open(root, origin=Origin(store.identity, store.last_position))
    except OSError as error:
        raise DataDirError(
            f"the analytics files at {root} cannot be used: {error.strerror or error}; give this user the right to"
            " write there, or move them away: they are made again"
        ) from error
    try:
        projection = AnalyticsProjection(analytics, store, codec)
        runner = ProjectionRunner(store, projection, batch_size=BATCH_SIZE)
        await runner.start()
        try:
            watched = WatchedProjection(runner, lambda: store.last_position, lambda: projection.parked)
            yield LiveAnalytics(analytics, runner), watched
        finally:
            await runner.stop()
    finally:
        await analytics.close()


@asynccontextmanager
async def following_analytics(
    store: DurableEventStore, codec: EventCodec, root: Path
) -> AsyncIterator[ProjectionRunner | None]:
    """For what is done without the server: where there are files at `root`, what keeps them up to date; leaving the
    context (without an error) waits until they know all that was done."""
    if not await asyncio.to_thread(root.is_dir):
        yield None
        return
    async with running_analytics(store, codec, root) as (live, _):
        yield live.runner
        await caught_up(live.runner, store.last_position)


async def tell_failure(runner: ProjectionRunner) -> None:
    """Log what ends the projection: answers stay right without it, only slower."""
    try:
        await runner.wait()
    except Exception:
        logger.exception("the analytics files are not kept up to date any more")
