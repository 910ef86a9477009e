"""Building the read models again from all events: a new file beside the old one, swapped in when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore
from monolith.readmodels.database import Database, remove_database
from monolith.readmodels.projector import PREFIXES, EventDecoder, ReadModelProjection

_PAGE: Final = 500


async def rebuild(store: EventStore, decoder: EventDecoder, path: Path) -> int:
    """Project all events of `store` into a new file and put it in the place of `path`; how many events there were.

    Nobody may have `path` open. A poisonous event is parked, as in live projection.
    """
    beside = path.with_name(f"{path.name}.rebuild")
    remove_database(beside)
    database = await Database.open(beside, readers=1)
    try:
        count = await _project_all(store, ReadModelProjection(database, decoder))
    finally:
        await database.close()
    remove_database(path)
    beside.replace(path)
    return count


async def _project_all(store: EventStore, projection: ReadModelProjection) -> int:
    after, count = None, 0
    while events := await store.read_all(after=after, prefixes=PREFIXES, limit=_PAGE):
        await _project(projection, events)
        after, count = events[-1].commit_position, count + len(events)
    return count


async def _project(projection: ReadModelProjection, events: list[RecordedEvent]) -> None:
    """All together; if that fails one by one, so that only the poisonous ones are parked."""
    try:
        await projection.apply(events)
    except StoreUnavailableError:
        raise
    except Exception:
        for event in events:
            await _project_one(projection, event)


async def _project_one(projection: ReadModelProjection, event: RecordedEvent) -> None:
    try:
        await projection.apply([event])
    except StoreUnavailableError:
        raise
    except Exception as error:
        await projection.park(event, error)
