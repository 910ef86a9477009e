"""A part of a store that others use, too, as if it were a store of its own: its streams share a prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from eventsourcing.events import AppendResult, CaughtUp, NewEvent, RecordedEvent
from eventsourcing.store import EventStore, SubscriptionItem
from eventsourcing.versions import ExpectedVersion


class NamespacedStore:
    """The `EventStore` port over the streams of `store` that begin with `prefix`."""

    def __init__(self, store: EventStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        return await self._store.append(self._prefix + stream_name, events, expected_version=expected_version)

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        events = await self._store.read_stream(
            self._prefix + stream_name, from_position=from_position, backwards=backwards, limit=limit
        )
        return self._stripped(events)

    async def stream_version(self, stream_name: str) -> int | None:
        return await self._store.stream_version(self._prefix + stream_name)

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        events = await self._store.read_all(
            after=after, prefixes=self._prefixes(prefixes), backwards=backwards, limit=limit
        )
        return self._stripped(events)

    async def head(self) -> int | None:
        newest = await self.read_all(backwards=True, limit=1)
        return newest[0].commit_position if newest else None

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        return self._followed(self._store.subscribe(after=after, prefixes=self._prefixes(prefixes)))

    @asynccontextmanager
    async def _followed(
        self, subscription: AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]
    ) -> AsyncIterator[AsyncIterator[SubscriptionItem]]:
        async with subscription as items:
            yield self._stripped_items(items)

    async def _stripped_items(
        self, items: AsyncIterator[SubscriptionItem]
    ) -> AsyncIterator[SubscriptionItem]:
        async for item in items:
            yield item if isinstance(item, CaughtUp) else self._stripped(item)

    async def delete_stream(self, stream_name: str) -> None:
        await self._store.delete_stream(self._prefix + stream_name)

    async def tombstone_stream(self, stream_name: str) -> None:
        await self._store.tombstone_stream(self._prefix + stream_name)

    async def close(self) -> None:
        await self._store.close()

    def _prefixes(self, prefixes: Sequence[str]) -> list[str]:
        return [self._prefix + prefix for prefix in prefixes] or [self._prefix]

    def _stripped(self, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        cut = len(self._prefix)
        return [msgspec.structs.replace(event, stream_name=event.stream_name[cut:]) for event in events]
