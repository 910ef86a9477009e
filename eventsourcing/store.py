"""The event store port. Adapters: memory, SQLite, KurrentDB; one contract suite tests them all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from eventsourcing.events import AppendResult, CaughtUp, NewEvent, RecordedEvent
from eventsourcing.versions import ExpectedVersion

SubscriptionItem: TypeAlias = list[RecordedEvent] | CaughtUp
"""Events in commit order, never an empty list; or the notice that there are no more for now."""


class EventStore(Protocol):
    """Appends to streams, reads them, follows them. All methods are safe to call from many tasks at once."""

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        """Store `events` (at least one) at the end of the stream: all or none, durable when this returns.

        Appending the same event ids again at the same place changes nothing and returns the first result,
        even where `expected_version` no longer holds.

        Raises WrongExpectedVersionError, StreamTombstonedError, EventIdConflictError, StoreUnavailableError.
        A cancelled append may or may not have happened.
        """
        ...

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        """At most `limit` events of one stream, from `from_position` inclusive (None: its start or its end).

        A stream that does not exist, was deleted or tombstoned reads as empty.
        """
        ...

    async def stream_version(self, stream_name: str) -> int | None:
        """Stream position of the last event ever appended; None if there is none to build on."""
        ...

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        """At most `limit` events in commit order, strictly after `after` (backwards: strictly before it).

        `prefixes`: only of streams whose name starts with one of these; empty means all.
        """
        ...

    async def head(self) -> int | None:
        """Commit position of the newest event; None when the store is empty."""
        ...

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        """Catch-up subscription: what is stored after `after`, then `CaughtUp`, then what is appended.

        `CaughtUp` comes each time the subscription has reached the end after delivering something, and once
        at the start; a store may say it again after it has passed over events that do not match.
        Nothing is delivered twice, nothing becomes visible behind what was delivered.
        """
        ...

    async def delete_stream(self, stream_name: str) -> None:
        """Remove the events; the stream may be written again, its positions go on. Unknown: no effect."""
        ...

    async def tombstone_stream(self, stream_name: str) -> None:
        """Remove the events and refuse the stream for ever. Repeating it, or an unknown stream: no error."""
        ...

    async def close(self) -> None:
        """Finish accepted appends, end subscriptions, release everything. Idempotent."""
        ...


class DurableEventStore(EventStore, Protocol):
    """A store that outlives the process, with what its users watch."""

    @property
    def identity(self) -> str:
        """A UUID that stays with the store: what was derived from one store does not fit another."""
        ...

    @property
    def last_position(self) -> int:
        """The greatest commit position this process knows of, 0 before the first. It never falls. Any thread may
        read it."""
        ...

    @property
    def waiting_appends(self) -> int:
        """Appends that were accepted and have not ended."""
        ...

    @property
    def queue_size(self) -> int:
        """As many appends may wait before callers are held up."""
        ...


async def iterate_stream(
    store: EventStore, stream_name: str, *, from_position: int = 0, page: int = 1000
) -> AsyncIterator[RecordedEvent]:
    """All events of a stream from `from_position` on, read in pages."""
    position = from_position
    while True:
        events = await store.read_stream(stream_name, from_position=position, limit=page)
        for event in events:
            yield event
        if len(events) < page:
            return
        position = events[-1].stream_position + 1
