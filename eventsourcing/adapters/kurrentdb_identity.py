"""Which database a KurrentDB server keeps now: another one may come to stand under the same address."""

from __future__ import annotations

from eventsourcing.adapters._kurrentdb_events import IDENTITY_STREAM
from eventsourcing.store import EventStore


async def identity_now(store: EventStore) -> str | None:
    """The identity as it is stored at this moment; None in a database that was never used. Raises
    StoreUnavailableError."""
    first = await store.read_stream(IDENTITY_STREAM, limit=1)
    return str(first[0].event_id) if first else None
