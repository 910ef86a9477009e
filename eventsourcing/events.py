"""Events on their way into a store and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

_NO_METADATA: Mapping[str, str] = {}


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that no stream holds yet. `data` and `metadata` are opaque to the store.

    `event_id` makes a retried append harmless: the same ids at the same place are stored once.
    """

    event_id: UUID
    event_type: str
    data: bytes
    metadata: Mapping[str, str] = _NO_METADATA


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as a stream holds it. Adapters may build it from positional fields; others use names.

    `stream_position` counts from 0 in its stream, without gaps until a delete; `commit_position` orders all
    events of the store, is opaque, and has gaps. `recorded_at` is Unix time in seconds (UTC).
    """

    stream_name: str
    stream_position: int
    commit_position: int
    event_type: str
    data: bytes
    metadata_json: bytes
    id_bytes: bytes
    recorded_at: float

    @property
    def event_id(self) -> UUID:
        return UUID(bytes=self.id_bytes)

    @property
    def metadata(self) -> dict[str, str]:
        return msgspec.json.decode(self.metadata_json, type=dict[str, str]) if self.metadata_json else {}


class AppendResult(msgspec.Struct, frozen=True, kw_only=True):
    """Where the last event of an append went."""

    stream_position: int
    commit_position: int


class CaughtUp(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription has delivered everything up to `commit_position` (None: empty store) and now waits."""

    commit_position: int | None
