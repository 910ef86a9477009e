"""Making all analytics files again: a new folder beside the old one, put in its place when it is complete.

Renaming a folder over another is not possible, so the steps are: the new one gets a name that says that it is
complete, the old one steps aside, the new one takes its name. A crash between them is mended at the next start.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import EventStore
from monolith.readmodels.analytics import PROJECTION_NAME, Analytics, AnalyticsProjection
from monolith.readmodels.analytics_store import beside, exchange_folders
from monolith.readmodels.files import Origin
from monolith.readmodels.projector import EventDecoder
from monolith.readmodels.rebuilding import Progress, Replay

_EXCHANGE_SECONDS: Final = 600.0
"""The projection may stand still for so long; answers do not wait for it."""


@dataclass(frozen=True)
class LiveAnalytics:
    """What is in use while it is rebuilt."""

    analytics: Analytics
    runner: ProjectionRunner


class AnalyticsRebuild:
    """The `Rebuildable` of the analytics files at `root`. `live`: None when nobody has them open.

    `room`: how many bytes may be written (blocks briefly).
    """

    name = PROJECTION_NAME

    def __init__(
        self,
        store: EventStore,
        decoder: EventDecoder,
        root: Path,
        *,
        origin: Origin | None = None,
        live: LiveAnalytics | None = None,
        room: Callable[[], int] = lambda: 1 << 62,
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._root = root
        self._origin = origin
        self._live = live
        self._room = room

    async def rebuild(self, progress: Progress) -> int:
        def watched(done: int, total: int | None) -> None:
            if self._room() < 0:
                raise StoreUnavailableError(
                    "the disk has no room for new analytics files beside the old ones"
                )
            progress(done, total)

        folder = beside(self._root)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        building = await Analytics.open(folder, origin=self._origin)
        try:
            projection = AnalyticsProjection(building, self._store, self._decoder)
            replay = Replay(self._store, projection, watched)
            await replay.catch_up()
            await self._put_in_place(replay, building)
        finally:
            await building.close()
            for left in (folder, building.scratch):
                await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        return replay.done

    async def _put_in_place(self, replay: Replay, building: Analytics) -> None:
        if self._live is None:
            await building.close()
            await asyncio.to_thread(exchange_folders, self._root)
            return
        async with asyncio.timeout(_EXCHANGE_SECONDS), self._live.runner.paused():
            await replay.catch_up()
            await building.close()
            await self._live.analytics.exchange()
