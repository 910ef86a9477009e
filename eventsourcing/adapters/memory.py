"""An event store in memory: for tests and for programs that need no memory of yesterday."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from operator import attrgetter

import msgspec

from eventsourcing.errors import (
    EventIdConflictError,
    StoreUnavailableError,
    StreamTombstonedError,
    WrongExpectedVersionError,
)
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.store import SubscriptionItem
from eventsourcing.subscription import PAGE_SIZE, CommitSignal, Page, Subscription
from eventsourcing.versions import ExpectedVersion, is_expected

_commit_position = attrgetter("commit_position")
_stream_position = attrgetter("stream_position")


class _Stream:
    """The events held, the position of the last ever held, and whether the stream is gone for good."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.version: int | None = None
        self.tombstoned = False


class MemoryEventStore:
    """The `EventStore` port over plain lists. `clock` gives Unix seconds for `recorded_at`."""

    def __init__(self, *, clock: Callable[[], float] = time.time, page_size: int = PAGE_SIZE) -> None:
        self.signal = CommitSignal()
        self._clock = clock
        self._page_size = page_size
        self._streams: dict[str, _Stream] = {}
        self._log: list[RecordedEvent] = []
        self._by_id: dict[bytes, RecordedEvent] = {}
        self._last_commit = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        self._check_open()
        if not events:
            raise ValueError("an append needs at least one event")
        stream = self._streams.get(stream_name) or _Stream()
        if stream.tombstoned:
            raise StreamTombstonedError(stream_name)
        if (before := self._stored_before(stream_name, events)) is not None:
            return before
        if not is_expected(expected_version, stream.version, holds_events=bool(stream.events)):
            raise WrongExpectedVersionError(stream_name, expected_version, stream.version)
        recorded = self._record(stream_name, stream, events)
        self._streams[stream_name] = stream
        self.signal.notify()
        return recorded

    def _stored_before(self, stream_name: str, events: Sequence[NewEvent]) -> AppendResult | None:
        """The first result of this very append; None where all its ids are new."""
        ids = [event.event_id.bytes for event in events]
        stored = [self._by_id[id_] for id_ in ids if id_ in self._by_id]
        if not stored and len(set(ids)) == len(ids):
            return None
        start = stored[0].stream_position if stored else 0
        places = [(event.stream_name, event.stream_position) for event in stored]
        if places != [(stream_name, start + index) for index in range(len(ids))]:
            raise EventIdConflictError(f"stream {stream_name!r}: an event id is already stored elsewhere")
        last = stored[-1]
        return AppendResult(stream_position=last.stream_position, commit_position=last.commit_position)

    def _record(self, stream_name: str, stream: _Stream, events: Sequence[NewEvent]) -> AppendResult:
        now, first = self._clock(), 0 if stream.version is None else stream.version + 1
        recorded = [
            RecordedEvent(
                stream_name=stream_name,
                stream_position=first + index,
                commit_position=self._last_commit + 1 + index,
                event_type=event.event_type,
                data=event.data,
                metadata_json=msgspec.json.encode(event.metadata) if event.metadata else b"",
                id_bytes=event.event_id.bytes,
                recorded_at=now,
            )
            for index, event in enumerate(events)
        ]
        stream.events += recorded
        self._log += recorded
        self._by_id.update((event.id_bytes, event) for event in recorded)
        stream.version = first + len(recorded) - 1
        self._last_commit += len(recorded)
        return AppendResult(stream_position=stream.version, commit_position=self._last_commit)

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        self._check_open()
        _check_limit(limit)
        stream = self._streams.get(stream_name)
        events = stream.events if stream else []
        if not backwards:
            start = 0 if from_position is None else bisect_left(events, from_position, key=_stream_position)
            return events[start : start + limit]
        end = len(events)
        if from_position is not None:
            end = bisect_right(events, from_position, key=_stream_position)
        return events[max(0, end - limit) : end][::-1]

    async def stream_version(self, stream_name: str) -> int | None:
        self._check_open()
        stream = self._streams.get(stream_name)
        return None if stream is None or stream.tombstoned else stream.version

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        self._check_open()
        _check_limit(limit)
        if not backwards:
            return (await self.read_page(after, prefixes, limit)).events
        end = len(self._log) if after is None else bisect_left(self._log, after, key=_commit_position)
        events = (self._log[index] for index in range(end - 1, -1, -1))
        return list(islice(_matching(events, prefixes), limit))

    async def read_page(self, after: int | None, prefixes: Sequence[str], limit: int) -> Page:
        """See `subscription.Feed`."""
        self._check_open()
        start = 0 if after is None else bisect_right(self._log, after, key=_commit_position)
        events = (self._log[index] for index in range(start, len(self._log)))
        found = list(islice(_matching(events, prefixes), limit))
        if len(found) == limit:
            through: int | None = found[-1].commit_position if found else after
            return Page(found, through, False)
        return Page(found, self._log[-1].commit_position if start < len(self._log) else after, True)

    async def head(self) -> int | None:
        self._check_open()
        return self._log[-1].commit_position if self._log else None

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        self._check_open()
        return Subscription(self, after=after, prefixes=prefixes, page_size=self._page_size)

    async def delete_stream(self, stream_name: str) -> None:
        self._check_open()
        if stream := self._streams.get(stream_name):
            self._remove_events(stream)

    async def tombstone_stream(self, stream_name: str) -> None:
        self._check_open()
        stream = self._streams.setdefault(stream_name, _Stream())
        self._remove_events(stream)
        stream.tombstoned = True

    def _remove_events(self, stream: _Stream) -> None:
        gone = {event.commit_position for event in stream.events}
        for event in stream.events:
            del self._by_id[event.id_bytes]
        self._log = [event for event in self._log if event.commit_position not in gone]
        stream.events = []

    async def close(self) -> None:
        self._closed = True
        self.signal.notify()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the event store is closed")


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise ValueError(f"limit must not be negative, not {limit}")


def _matching(events: Iterable[RecordedEvent], prefixes: Sequence[str]) -> Iterable[RecordedEvent]:
    if not prefixes:
        return events
    wanted = tuple(prefixes)
    return (event for event in events if event.stream_name.startswith(wanted))
