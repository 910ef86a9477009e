"""Events and filters in the words of KurrentDB's client, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from kurrentdbclient import NewEvent as ClientEvent
from kurrentdbclient import RecordedEvent as ServerEvent
from kurrentdbclient import StreamState as ServerState
from kurrentdbclient.client import DEFAULT_EXCLUDE_FILTER

from eventsourcing.events import NewEvent, RecordedEvent
from eventsourcing.versions import ANY, EXISTS, NO_STREAM, StreamState

IDENTITY_STREAM: Final = "store-identity"
"""Holds one event, whose id names the store."""
STATES: Final[dict[StreamState, ServerState]] = {
    ANY: ServerState.ANY,
    NO_STREAM: ServerState.NO_STREAM,
    EXISTS: ServerState.EXISTS,
}
_encode = msgspec.json.Encoder().encode


def proposed(event: NewEvent) -> ClientEvent:
    return ClientEvent(
        type=event.event_type,
        data=event.data,
        metadata=_encode(event.metadata) if event.metadata else b"",
        id=event.event_id,
    )


def recorded(event: ServerEvent) -> RecordedEvent:
    position = event.commit_position
    assert position is not None
    created = event.recorded_at
    return RecordedEvent(
        event.stream_name,
        event.stream_position,
        position,
        event.type,
        event.data,
        event.metadata,
        event.id.bytes,
        0.0 if created is None else created.timestamp(),
    )


def is_ours(event: ServerEvent) -> bool:
    """Whether it is no event of the server's own (a tombstone stands in the stream that it ends), nor the store's."""
    return not event.type.startswith("$") and event.stream_name != IDENTITY_STREAM


def all_filter(prefixes: Sequence[str]) -> dict[str, Any]:
    """Arguments of `read_all` and `subscribe_to_all`: streams by prefix, else all but the server's own events."""
    if not prefixes or "" in prefixes:
        return {"filter_exclude": DEFAULT_EXCLUDE_FILTER}
    return {
        "filter_exclude": (),
        "filter_include": tuple(dict.fromkeys(prefixes)),
        "filter_by_stream_name": True,
        "filter_by_prefix": True,
    }
