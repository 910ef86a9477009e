"""What passes every call on: bases for wrappers that do something more about a few of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager

from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.projection import Projection
from eventsourcing.store import EventStore, SubscriptionItem
from eventsourcing.versions import ExpectedVersion


class ForwardingStore:
    """The `EventStore` port over another."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        return await self._store.append(stream_name, events, expected_version=expected_version)

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        return await self._store.read_stream(
            stream_name, from_position=from_position, backwards=backwards, limit=limit
        )

    async def stream_version(self, stream_name: str) -> int | None:
        return await self._store.stream_version(stream_name)

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        return await self._store.read_all(after=after, prefixes=prefixes, backwards=backwards, limit=limit)

    async def head(self) -> int | None:
        return await self._store.head()

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        return self._store.subscribe(after=after, prefixes=prefixes)

    async def delete_stream(self, stream_name: str) -> None:
        await self._store.delete_stream(stream_name)

    async def tombstone_stream(self, stream_name: str) -> None:
        await self._store.tombstone_stream(stream_name)

    async def close(self) -> None:
        await self._store.close()


class ForwardingProjection:
    """A `Projection` over another."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    @property
    def name(self) -> str:
        return self._projection.name

    @property
    def prefixes(self) -> Sequence[str]:
        return self._projection.prefixes

    async def apply(self, events: list[RecordedEvent]) -> None:
        await self._projection.apply(events)

    async def checkpoint(self) -> int | None:
        return await self._projection.checkpoint()

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        await self._projection.park(event, error)

    async def parked_streams(self) -> Collection[str]:
        """None where the projection does not remember them."""
        remember = getattr(self._projection, "parked_streams", None)
        return await remember() if remember is not None else ()
