"""An event store in one SQLite file, for one process that writes (others may read, and even write, politely).

One thread writes with group commit, a few read. Acknowledged means synced to the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import starmap
from typing import Any, Final

import apsw

from eventsourcing.adapters import _sqlite_database as database
from eventsourcing.adapters._sqlite_readers import Readers
from eventsourcing.adapters._sqlite_writer import Append, Removal, Result, Work, Writer
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.store import SubscriptionItem
from eventsourcing.subscription import PAGE_SIZE, CommitSignal, Page, Subscription
from eventsourcing.versions import ExpectedVersion

READERS: Final = 4
QUEUE_SIZE: Final = 4_096
"""Appends that may wait for the writer; more callers wait for a place."""

WINDOW: Final = 20_000
"""Commit positions that one filtered query looks at: it keeps read transactions short."""

SCAN_SECONDS: Final = 0.05
"""How long one filtered read holds its thread before it returns what it has."""


class SqliteEventStore:
    """The `EventStore` port over SQLite. Make it with `open`, in the event loop that uses it."""

    def __init__(
        self,
        writing: apsw.Connection,
        reading: Sequence[apsw.Connection],
        *,
        queue_size: int,
        page_size: int,
        clock: Callable[[], float],
    ) -> None:
        self.signal = CommitSignal()
        self._loop = asyncio.get_running_loop()
        self._page_size = page_size
        self.queue_size = queue_size
        self.identity: str = writing.execute(database.SELECT_IDENTITY).get
        """A random UUID, made with the file: what was derived from one store does not fit another."""
        self.last_position: int = writing.execute(database.SELECT_LAST_COMMIT).get
        """The greatest commit position this process knows of, of deleted events too; 0 before the first.
        It never falls. Any thread may read it."""
        self._waiting = 0
        self._places: deque[asyncio.Future[None]] = deque()
        self._closing: asyncio.Task[None] | None = None
        self._writer_ended = self._loop.create_future()
        self._readers = Readers(reading)
        self._writer = Writer(writing, settle=self._settle, stopped=self._writer_stopped, clock=clock)

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        queue_size: int = QUEUE_SIZE,
        page_size: int = PAGE_SIZE,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> SqliteEventStore:
        """Open the store at `path`, making the file where there is none.

        `queue_size` bounds the waiting appends, `page_size` the events of one subscription item, `max_bytes`
        the file: appends beyond it fail as on a full disk. `clock` gives Unix seconds for `recorded_at`.
        Raises StoreUnavailableError.
        """
        writing, *reading = await asyncio.to_thread(database.open_all, path, READERS, max_bytes)
        store = cls(writing, reading, queue_size=queue_size, page_size=page_size, clock=clock)
        store._writer.start()
        return store

    @property
    def closed(self) -> bool:
        return self._closing is not None or self._writer_ended.done()

    @property
    def waiting_appends(self) -> int:
        """Appends (and deletes) that the writer has accepted and not finished; at most `queue_size`."""
        return self._waiting

    # Writing

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if not events:
            raise ValueError("an append needs at least one event")
        if self._waiting >= self.queue_size:
            await self._wait_for_place()
        self._check_open()
        done: asyncio.Future[AppendResult] = self._loop.create_future()
        self._waiting += 1
        self._writer.put(Append(stream_name, events, expected_version, done))
        return await done

    async def delete_stream(self, stream_name: str) -> None:
        await self._remove(stream_name, tombstone=False)

    async def tombstone_stream(self, stream_name: str) -> None:
        await self._remove(stream_name, tombstone=True)

    async def _remove(self, stream_name: str, *, tombstone: bool) -> None:
        if self._waiting >= self.queue_size:
            await self._wait_for_place()
        self._check_open()
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting += 1
        self._writer.put(Removal(stream_name, tombstone, done))
        await done

    async def _wait_for_place(self) -> None:
        """Back-pressure: first come, first served."""
        while self._waiting >= self.queue_size and not self.closed:
            place = self._loop.create_future()
            self._places.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._offer_places()  # it was given to this caller, who does not want it
                raise

    def _offer_places(self) -> None:
        free = self.queue_size - self._waiting
        while self._places and (free > 0 or self.closed):
            place = self._places.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def _settle(self, finished: list[Work], results: list[Result]) -> None:
        """In the writer's thread: one wake-up of the loop for the whole group."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it all who waited
            self._loop.call_soon_threadsafe(self._finish, finished, results)

    def _finish(self, finished: list[Work], results: list[Result]) -> None:
        self._waiting -= len(finished)
        for work, result in zip(finished, results, strict=True):
            if isinstance(result, AppendResult):
                self.last_position = max(self.last_position, result.commit_position)
            done: asyncio.Future[Any] = work.done
            if done.done():
                continue
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)
        self.signal.notify()
        if self._places:
            self._offer_places()

    # Reading

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        _check_limit(limit)
        bound, order = ("<=", "DESC") if backwards else (">=", "ASC")
        parameters: list[str | int] = [stream_name]
        condition = "stream_name = ?"
        if from_position is not None:
            condition += f" AND stream_position {bound} ?"
            parameters.append(from_position)
        sql = f"{database.SELECT_STREAM} WHERE {condition} ORDER BY stream_position {order} LIMIT ?"
        return await self._events(sql, (*parameters, limit))

    async def stream_version(self, stream_name: str) -> int | None:
        self._check_open()
        row = await self._readers.run(lambda c: c.execute(database.SELECT_HEAD, (stream_name,)).fetchone())
        if row is None:
            return None
        _, kept, tombstoned, last = row
        version: int | None = kept if last is None else last
        return None if tombstoned else version

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        _check_limit(limit)
        if backwards:
            return await self._read_all_backwards(after, prefixes, limit)
        if not prefixes:
            sql = f"{database.SELECT_EVENTS} WHERE commit_position > ? ORDER BY commit_position LIMIT ?"
            return await self._events(sql, (-1 if after is None else after, limit))
        events: list[RecordedEvent] = []
        while len(events) < limit:
            page = await self.read_page(after, prefixes, limit - len(events))
            events += page.events
            after = page.through
            if page.at_end:
                break
        return events

    async def _read_all_backwards(
        self, before: int | None, prefixes: Sequence[str], limit: int
    ) -> list[RecordedEvent]:
        condition, parameters = database.prefix_filter(prefixes)
        bound = "" if before is None else " AND commit_position < ?"
        sql = f"{database.SELECT_EVENTS} WHERE true{condition}{bound} ORDER BY commit_position DESC LIMIT ?"
        bounds = () if before is None else (before,)
        return await self._events(sql, (*parameters, *bounds, limit))

    async def read_page(self, after: int | None, prefixes: Sequence[str], limit: int) -> Page:
        """See `subscription.Feed`."""
        self._check_open()
        condition, parameters = database.prefix_filter(prefixes)
        sql = (
            f"{database.SELECT_EVENTS} WHERE commit_position > ? AND commit_position <= ?{condition}"
            " ORDER BY commit_position LIMIT ?"
        )
        return await self._readers.run(lambda c: _scan(c, sql, parameters, after, limit))

    async def head(self) -> int | None:
        self._check_open()
        position: int | None = await self._readers.run(_head)
        return position

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        self._check_open()
        return Subscription(self, after=after, prefixes=prefixes, page_size=self._page_size)

    async def _events(self, sql: str, parameters: tuple[str | int, ...]) -> list[RecordedEvent]:
        self._check_open()
        return await self._readers.run(lambda c: list(starmap(RecordedEvent, c.execute(sql, parameters))))

    # Closing

    async def close(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._shut_down(), name="event-store-close")
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        self.signal.notify()
        self._offer_places()
        self._writer.stop()
        await self._readers.close()
        await self._writer_ended
        self._writer.join()

    def _writer_stopped(self) -> None:
        """In the writer's thread, at its end."""
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self._on_writer_ended)

    def _on_writer_ended(self) -> None:
        """After a close nothing is left; after a failure of the writer itself, nobody waits in vain."""
        self._writer_ended.set_result(None)
        left = self._writer.left_behind()
        self._finish(left, [self._writer_failure() for _ in left])
        self._offer_places()

    def _writer_failure(self) -> Exception:
        error = StoreUnavailableError("the event store's writer has failed")
        error.__cause__ = self._writer.failure
        return error

    def _check_open(self) -> None:
        if self.closed:
            raise StoreUnavailableError("the event store is closed")


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise ValueError(f"limit must not be negative, not {limit}")


def _head(connection: apsw.Connection) -> int | None:
    position: int | None = connection.execute("SELECT max(commit_position) FROM event").get
    return position


def _scan(
    connection: apsw.Connection, sql: str, parameters: list[str], after: int | None, limit: int
) -> Page:
    """Look through windows of the log until `limit` events are found, its end is reached, or time is up."""
    head = _head(connection)
    if head is None or (after is not None and head <= after):
        return Page([], after, True)
    events: list[RecordedEvent] = []
    position = -1 if after is None else after
    deadline = time.monotonic() + SCAN_SECONDS
    while True:
        end = min(head, _first_behind(connection, position) + WINDOW)
        rows = connection.execute(sql, (position, end, *parameters, limit - len(events)))
        events += starmap(RecordedEvent, rows)
        if len(events) == limit:
            through = events[-1].commit_position
            return Page(events, through, through == head)
        position = end
        if position == head or time.monotonic() > deadline:
            return Page(events, position, position == head)


def _first_behind(connection: apsw.Connection, position: int) -> int:
    """Deletes leave gaps of any width; the next window begins behind them."""
    first: int | None = connection.execute(
        "SELECT min(commit_position) FROM event WHERE commit_position > ?", (position,)
    ).get
    return position if first is None else first
