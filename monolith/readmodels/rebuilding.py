"""Building the read models again from all events: a new file beside the old one, swapped in when it is complete.

Beside a running program answers go on from the old file, and new events reach it, until the new one has all of them but
the last few: those are projected while the projection of the old one is paused, then the new one takes its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.projection import DependsOnParkedError, Projection, ProjectionRunner
from eventsourcing.store import EventStore
from monolith.readmodels import files
from monolith.readmodels.cleaning import Cleaner
from monolith.readmodels.database import Database
from monolith.readmodels.expiries import load_expiries
from monolith.readmodels.files import Origin
from monolith.readmodels.projector import PROJECTION_NAME, EventDecoder, ReadModelProjection
from monolith.readmodels.queries import ReadModels
from monolith.threads import in_thread

_PAGE: Final = 500
"""Events in one transaction."""
_EXCHANGE_SECONDS: Final = 60.0
"""The longest time in which answers to writes may have to wait."""

Progress: TypeAlias = Callable[[int, int | None], None]
"""Events done; events there, as far as is known: those done and at most as many as lie behind them."""

logger = logging.getLogger(__name__)


class Rebuildable(Protocol):
    """Something that is made from events alone and can be made again while it is in use."""

    @property
    def name(self) -> str: ...

    async def rebuild(self, progress: Progress) -> int:
        """Make it again; how many events were projected. Interrupted or failed, it leaves what was there before.

        Raises StoreUnavailableError, OSError.
        """
        ...


class Replay:
    """Projects all events of a store, as a runner does it, but one pass at a time and without patience: a store or a
    disk that fails ends it. `done`: events projected or parked so far."""

    def __init__(self, store: EventStore, projection: Projection, progress: Progress) -> None:
        self.done = 0
        self._store = store
        self._projection = projection
        self._progress = progress
        self._after: int | None = None
        self._parked: set[str] = set()

    async def catch_up(self) -> None:
        """Project what is stored by now; more may come meanwhile."""
        head = await self._store.head()
        while head is not None and (self._after is None or self._after < head):
            events = await self._store.read_all(
                after=self._after, prefixes=self._projection.prefixes, limit=_PAGE
            )
            if not events:
                break
            await self._project(events)
            self._after = events[-1].commit_position
            self.done += len(events)
            self._progress(self.done, self.done + max(0, head - self._after))
        self._progress(self.done, self.done)

    async def _project(self, events: list[RecordedEvent]) -> None:
        """All together; if that fails one by one, so that only the poisonous ones and what depends on them are
        parked."""
        if self._parked.isdisjoint(event.stream_name for event in events):
            try:
                await self._projection.apply(events)
            except (StoreUnavailableError, OSError):
                raise
            except Exception as error:
                logger.warning("an event cannot be projected and will be parked: %s", error)
            else:
                return
        for event in events:
            await self._project_one(event)

    async def _project_one(self, event: RecordedEvent) -> None:
        if event.stream_name in self._parked:
            await self._projection.park(event, DependsOnParkedError.of(event))
            return
        try:
            await self._projection.apply([event])
        except (StoreUnavailableError, OSError):
            raise
        except Exception as error:
            self._parked.add(event.stream_name)
            await self._projection.park(event, error)


@dataclass(frozen=True)
class Live:
    """What is in use while it is rebuilt: the read models, and the runner that keeps them up to date."""

    models: ReadModels
    runner: ProjectionRunner


class ReadModelRebuild:
    """The `Rebuildable` of the read models at `path`. `live`: None when nobody has them open.

    `origin`: what `store` is, for the next opening of the file. `room`: how many bytes may be written (blocks briefly).
    """

    name = PROJECTION_NAME

    def __init__(
        self,
        store: EventStore,
        decoder: EventDecoder,
        path: Path,
        *,
        origin: Origin | None = None,
        live: Live | None = None,
        room: Callable[[], int] = lambda: 1 << 62,
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._path = path
        self._origin = origin
        self._live = live
        self._room = room

    async def rebuild(self, progress: Progress) -> int:
        self._require_room(self._path.stat().st_size if self._path.exists() else 0)

        def watched(done: int, total: int | None) -> None:
            self._require_room(0)
            progress(done, total)

        beside = files.beside(self._path)
        try:
            return await self._rebuild(beside, watched)
        finally:
            await asyncio.to_thread(files.remove_database, beside)

    async def _rebuild(self, beside: Path, progress: Progress) -> int:
        database = await Database.build(beside, origin=self._origin)
        try:
            expiries = await load_expiries(self._store, self._decoder)
            projection = ReadModelProjection(database, self._decoder, expiries=expiries)
            replay = Replay(self._store, projection, progress)
            await self._build(replay, database)
            await self._put_in_place(replay, database)
        finally:
            await database.close()
        return replay.done

    async def _build(self, replay: Replay, database: Database) -> None:
        """All but what came in the last moments, on the disk."""
        await replay.catch_up()
        await Cleaner(database).finish()
        await database.harden()
        await replay.catch_up()

    async def _put_in_place(self, replay: Replay, database: Database) -> None:
        if self._live is None:
            await database.seal()
            await asyncio.to_thread(files.fold_log, self._path)
            await in_thread(files.exchange, database.path, self._path)
            return
        async with asyncio.timeout(_EXCHANGE_SECONDS), self._live.runner.paused():
            await replay.catch_up()
            await database.seal()
            await self._live.models.exchange(database.path)

    def _require_room(self, needed: int) -> None:
        room = self._room()
        if room < needed:
            raise StoreUnavailableError(
                f"a rebuild needs about {needed / 1e6:,.0f} MB beside the present read models, and"
                f" {max(0, room) / 1e6:,.0f} MB of the disk may be used; make room and ask again"
            )


async def rebuild(
    store: EventStore, decoder: EventDecoder, path: Path, *, origin: Origin | None = None
) -> int:
    """Build the read models at `path`, which nobody has open; how many events there were."""
    return await ReadModelRebuild(store, decoder, path, origin=origin).rebuild(lambda done, total: None)
