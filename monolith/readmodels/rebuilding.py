"""Building the read models again from all events: a new file beside the old one, swapped in when it is complete."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.projection import DependsOnParkedError
from eventsourcing.store import EventStore
from monolith.readmodels.cleaning import Cleaner
from monolith.readmodels.database import Database
from monolith.readmodels.files import Origin, remove_database
from monolith.readmodels.projector import PREFIXES, EventDecoder, ReadModelProjection

_PAGE: Final = 500

logger = logging.getLogger(__name__)


async def rebuild(
    store: EventStore, decoder: EventDecoder, path: Path, *, origin: Origin | None = None
) -> int:
    """Project all events of `store` into a new file and put it in the place of `path`; how many events there were.

    `origin`: what `store` is, for the next opening of the file. Nobody may have `path` open. A poisonous event is
    parked, as in live projection.
    """
    beside = path.with_name(f"{path.name}.rebuild")
    remove_database(beside)
    database = await Database.open(beside, origin=origin, readers=1)
    try:
        count = await _project_all(store, ReadModelProjection(database, decoder))
        await Cleaner(database).finish()
    finally:
        await database.close()
    remove_database(path)
    beside.replace(path)
    return count


async def _project_all(store: EventStore, projection: ReadModelProjection) -> int:
    after, count = None, 0
    parked: set[str] = set()
    while events := await store.read_all(after=after, prefixes=PREFIXES, limit=_PAGE):
        await _project(projection, events, parked)
        after, count = events[-1].commit_position, count + len(events)
    return count


async def _project(projection: ReadModelProjection, events: list[RecordedEvent], parked: set[str]) -> None:
    """All together; if that fails one by one, so that only the poisonous ones and what depends on them are parked."""
    if parked.isdisjoint(event.stream_name for event in events):
        try:
            await projection.apply(events)
        except StoreUnavailableError:
            raise
        except Exception:
            logger.warning("an event cannot be projected; going on one by one", exc_info=True)
        else:
            return
    for event in events:
        await _project_one(projection, event, parked)


async def _project_one(projection: ReadModelProjection, event: RecordedEvent, parked: set[str]) -> None:
    if event.stream_name in parked:
        await projection.park(
            event, DependsOnParkedError(f"an earlier event of stream {event.stream_name!r} is parked")
        )
        return
    try:
        await projection.apply([event])
    except StoreUnavailableError:
        raise
    except Exception as error:
        parked.add(event.stream_name)
        await projection.park(event, error)
