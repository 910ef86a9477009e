"""The one thread that writes the event store's file.

Rules:
- All appends that wait when a transaction begins go into it together (group commit), in the order they came.
- Each append is all or none by its own check; one that fails writes nothing and spoils no other.
- The usual append costs one row and no look-up: event ids are checked by the index alone. Where the index
  refuses one, the group starts again with every id looked up. Where something else fails (a value that SQLite
  cannot take, a full disk), each append of the group is tried again by itself.
- Commit positions are given inside the transaction, by the only writer: none becomes visible behind another.
- What was cached of the file is forgotten when another process has written to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

import apsw
import msgspec

from eventsourcing.adapters import _sqlite_database as database
from eventsourcing.errors import (
    EventIdConflictError,
    StoreUnavailableError,
    StreamTombstonedError,
    WrongExpectedVersionError,
)
from eventsourcing.events import AppendResult, NewEvent
from eventsourcing.versions import ExpectedVersion, is_expected

GROUP_EVENTS: Final = 2_000
"""A transaction takes no further append once it holds this many events."""

CHECKPOINT_PAGES: Final = 2_000
"""The write-ahead log is copied into the database file each time it has grown by this many pages."""

LONG_LOG_PAGES: Final = 2 * CHECKPOINT_PAGES
"""From this length on, the writer waits for readers so that the log can begin anew."""

RESTART_MILLISECONDS: Final = 500
"""How long it waits for them at a time."""

GROUP_REMOVALS: Final = 32
"""Deletes and tombstones that are done together."""

REMOVED_EVENTS: Final = 2_000
"""A transaction that has removed so many events ends: some ten milliseconds."""

VACUUM_PAGES: Final = 500
"""Free pages given back to the file system at a time, when nothing waits to be written."""

CACHED_HEADS: Final = 5_000
"""Stream heads remembered between groups."""

_Row: TypeAlias = tuple[int, int, int, float, bytes, str, bytes, bytes]
Result: TypeAlias = AppendResult | Exception | None


class Append:
    """One waiting append. `done` is the caller's future, untouched by the writer."""

    __slots__ = ("done", "events", "expected", "stream_name")

    def __init__(
        self, stream_name: str, events: Sequence[NewEvent], expected: ExpectedVersion, done: Any
    ) -> None:
        self.stream_name = stream_name
        self.events = events
        self.expected = expected
        self.done = done


class Removal:
    """One waiting delete or tombstone."""

    __slots__ = ("done", "stream_name", "tombstone")

    def __init__(self, stream_name: str, tombstone: bool, done: Any) -> None:
        self.stream_name = stream_name
        self.tombstone = tombstone
        self.done = done


Work: TypeAlias = Append | Removal
W = TypeVar("W", Append, Removal)
Settle: TypeAlias = Callable[[list[Work], list[Result]], None]


class _Head:
    """Where a stream stands: `version` of the last event ever (None: never written)."""

    __slots__ = ("holds_events", "stream_id", "tombstoned", "version")

    def __init__(self, stream_id: int, version: int | None, holds_events: bool, tombstoned: bool) -> None:
        self.stream_id = stream_id
        self.version = version
        self.holds_events = holds_events
        self.tombstoned = tombstoned

    def copy(self) -> _Head:
        return _Head(self.stream_id, self.version, self.holds_events, self.tombstoned)


class _Group:
    """What one transaction is about to change: kept apart from the cache until it is committed."""

    def __init__(self, last_commit: int, now: float) -> None:
        self.heads: dict[str, _Head] = {}
        self.rows: list[_Row] = []
        self.last_commit = last_commit
        self.now = now


class Writer:
    """Owns the writing connection and its thread.

    `settle` is called in that thread, once a group, with the finished work and what became of each.
    `stopped` is called there last of all.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        settle: Settle,
        stopped: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._settle = settle
        self._stopped = stopped
        self._clock = clock
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._held: list[Work | None] = []
        """What was taken from the queue and comes next: at most one."""
        self._heads: dict[str, _Head] = {}
        self._last_commit = 0
        self._data_version: int | None = None
        self._wal_pages = 0
        self._checkpointed_pages = 0
        self._pages_to_give_back = True
        connection.set_wal_hook(self._on_commit)
        self.failure: BaseException | None = None
        self._in_hand: list[Work] = []
        self._thread = threading.Thread(target=self._run, name="event-store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, work: Work) -> None:
        """Accept work. The caller bounds how much waits."""
        self._queue.put(work)

    def stop(self) -> None:
        """Finish what was put before this, then close the connection and end."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_and_write():
                self._checkpoint_when_due()
                self._give_back_pages()
        except BaseException as error:
            self.failure = error
        finally:
            self._close()
            self._stopped()

    def _take_and_write(self) -> bool:
        """Wait for work and do what is there of its kind, up to a group. False: asked to stop."""
        first = self._held.pop() if self._held else self._queue.get()
        if isinstance(first, Append):
            appends = self._gather(first, GROUP_EVENTS, lambda append: len(append.events))
            self._hand_back([*appends], lambda: self._write(appends))
        elif isinstance(first, Removal):
            removals = self._gather(first, GROUP_REMOVALS, lambda removal: 1)
            self._hand_back([*removals], lambda: self._remove_all(removals))
        return first is not None

    def _gather(self, first: W, most: int, weigh: Callable[[W], int]) -> list[W]:
        """`first` and what waits behind it of the same kind, until it weighs `most` or more."""
        group, weight = [first], weigh(first)
        while weight < most and not self._queue.empty():
            work = self._queue.get()
            if not isinstance(work, type(first)):
                self._held.append(work)
                break
            group.append(work)
            weight += weigh(work)
        return group

    def _hand_back(self, finished: list[Work], write: Callable[[], list[Result]]) -> None:
        self._in_hand = finished
        self._settle(finished, write())
        self._in_hand = []

    def left_behind(self) -> list[Work]:
        """What was accepted and never done: nothing, unless the thread itself has failed. After its end."""
        left = [*self._in_hand, *(work for work in self._held if work is not None)]
        while not self._queue.empty():
            if (work := self._queue.get()) is not None:
                left.append(work)
        return left

    # Appends

    def _write(self, group: list[Append]) -> list[Result]:
        try:
            return self._transaction(group, look_up=False)
        except apsw.ConstraintError:
            return self._write_again(group)
        except apsw.BusyError as error:
            return [_failure(error) for _ in group]
        except Exception:
            return [self._write_alone(append) for append in group]

    def _write_again(self, group: list[Append]) -> list[Result]:
        """An event id is already stored (or comes twice): find out whose."""
        try:
            return self._transaction(group, look_up=True)
        except Exception:
            return [self._write_alone(append) for append in group]

    def _write_alone(self, append: Append) -> Result:
        try:
            return self._transaction([append], look_up=True)[0]
        except Exception as error:
            return _failure(error)

    def _transaction(self, appends: list[Append], *, look_up: bool) -> list[Result]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._refresh()
            group = _Group(self._last_commit, self._clock())
            results = [self._stage(append, group, look_up) for append in appends]
            self._insert(group)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._last_commit = group.last_commit
        if len(self._heads) > CACHED_HEADS:
            self._heads.clear()
        self._heads.update(group.heads)
        return results

    def _stage(self, append: Append, group: _Group, look_up: bool) -> Result:
        """Check one append and add its rows to the group."""
        name = append.stream_name
        head = group.heads.get(name) or self._open_head(name, group)
        if head.tombstoned:
            return StreamTombstonedError(name)
        expected = is_expected(append.expected, head.version, holds_events=head.holds_events)
        if look_up or not expected:
            self._insert(group)  # what this group adds is to be seen by the look-up
            if (before := self._stored_before(append, head)) is not None:
                return before
        if not expected:
            return WrongExpectedVersionError(name, append.expected, head.version)
        return self._add_rows(append, head, group)

    def _add_rows(self, append: Append, head: _Head, group: _Group) -> AppendResult:
        stream_position = -1 if head.version is None else head.version
        commit_position = group.last_commit
        if not head.stream_id:
            head.stream_id = self._create_stream(append.stream_name)
        for event in append.events:
            stream_position += 1
            commit_position += 1
            metadata = msgspec.json.encode(event.metadata) if event.metadata else b""
            group.rows.append(
                (
                    commit_position,
                    head.stream_id,
                    stream_position,
                    group.now,
                    event.event_id.bytes,
                    event.event_type,
                    metadata,
                    event.data,
                )
            )
        group.last_commit = commit_position
        head.version = stream_position
        head.holds_events = True
        return AppendResult(stream_position=stream_position, commit_position=commit_position)

    def _insert(self, group: _Group) -> None:
        if group.rows:
            self._connection.executemany(database.INSERT_EVENT, group.rows)
            group.rows.clear()

    def _stored_before(self, append: Append, head: _Head) -> Result:
        """The first result of this very append, or whose its ids are; None where they are all new."""
        ids = [event.event_id.bytes for event in append.events]
        select = "SELECT stream_id, stream_position, commit_position FROM event WHERE event_id = ?"
        places = [self._connection.execute(select, (id_,)).fetchone() for id_ in ids]
        stored = [place for place in places if place is not None]
        if not stored and len(set(ids)) == len(ids):
            return None
        start = stored[0][1] if stored else 0
        wanted = [(head.stream_id, start + index) for index in range(len(ids))]
        if [place[:2] for place in stored] != wanted:
            return EventIdConflictError(
                f"stream {append.stream_name!r}: an event id is already stored elsewhere"
            )
        return AppendResult(stream_position=stored[-1][1], commit_position=stored[-1][2])

    # Heads

    def _open_head(self, name: str, group: _Group) -> _Head:
        cached = self._heads.get(name)
        head = cached.copy() if cached is not None else self._load_head(name)
        group.heads[name] = head
        return head

    def _load_head(self, name: str) -> _Head:
        """The stream's head; with the stream id 0 where the file does not know the stream."""
        row = self._connection.execute(database.SELECT_HEAD, (name,)).fetchone()
        if row is None:
            return _Head(0, None, False, False)
        stream_id, kept_version, tombstoned, last = row
        return _Head(stream_id, kept_version if last is None else last, last is not None, bool(tombstoned))

    def _create_stream(self, name: str) -> int:
        self._connection.execute("INSERT INTO stream_head (stream_name) VALUES (?)", (name,))
        return self._connection.last_insert_rowid()

    def _refresh(self) -> None:
        """Forget what was cached if another process has written. Inside a transaction only."""
        data_version = self._connection.execute("PRAGMA data_version").get
        if data_version != self._data_version:
            self._heads.clear()
            self._last_commit = self._connection.execute(database.SELECT_LAST_COMMIT).get
            self._data_version = data_version

    # Deletes

    def _remove_all(self, removals: list[Removal]) -> list[Result]:
        results: list[Result] = []
        while len(results) < len(removals):
            results += self._remove_some(removals[len(results) :])
        return results

    def _remove_some(self, removals: list[Removal]) -> list[Result]:
        """One transaction that removes a bounded number of events, so that appends need not wait long; what became of
        the first of `removals`, as many as it did."""
        try:
            return self._removal_transaction(removals)
        except Exception as error:
            if len(removals) > 1:
                return self._remove_some(removals[:1])
            return [_failure(error)]

    def _removal_transaction(self, removals: list[Removal]) -> list[Result]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._refresh()
            execute("UPDATE store SET kept_commit = ?", (self._last_commit,))
            done = self._remove(removals)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        for removal in removals[:done]:
            self._heads.pop(removal.stream_name, None)
        self._pages_to_give_back = True
        return [None] * done

    def _remove(self, removals: list[Removal]) -> int:
        """How many of them were done when enough events were removed; at least one."""
        before = self._connection.total_changes()
        for done, removal in enumerate(removals, start=1):
            self._remove_stream(removal.stream_name, tombstone=removal.tombstone)
            if self._connection.total_changes() - before >= REMOVED_EVENTS:
                return done
        return len(removals)

    def _remove_stream(self, name: str, *, tombstone: bool) -> None:
        execute = self._connection.execute
        head = self._load_head(name)
        if not head.stream_id and tombstone:
            head.stream_id = self._create_stream(name)
        execute(
            "UPDATE stream_head SET kept_version = ?, tombstoned = ? WHERE stream_id = ?",
            (head.version, tombstone or head.tombstoned, head.stream_id),
        )
        execute("DELETE FROM event WHERE stream_id = ?", (head.stream_id,))

    # The file

    def _roll_back(self) -> None:
        """SQLite may have rolled back by itself (a full disk)."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _on_commit(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint_when_due(self) -> None:
        """Copy the log into the file. It begins anew at a commit that finds no reader in a fully copied one."""
        if self._wal_pages < self._checkpointed_pages:
            self._checkpointed_pages = 0
        if self._wal_pages - self._checkpointed_pages < CHECKPOINT_PAGES:
            return
        self._checkpointed_pages = self._wal_pages
        if self._wal_pages < LONG_LOG_PAGES:
            self._try(lambda: self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
        else:
            self._try(self._restart_log)

    def _restart_log(self) -> None:
        """Readers that follow each other closely never leave the log; wait until those of now have gone."""
        self._connection.set_busy_timeout(RESTART_MILLISECONDS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            self._connection.set_busy_timeout(database.BUSY_MILLISECONDS)

    def _give_back_pages(self) -> None:
        """Shrink the file after deletes, a little at a time, for as long as nobody waits."""
        while self._pages_to_give_back and self._queue.empty() and not self._held:
            self._try(self._vacuum_some)

    def _vacuum_some(self) -> None:
        self._pages_to_give_back = False  # also when this fails: the next delete tries again
        if self._connection.execute("PRAGMA freelist_count").get:
            self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            self._pages_to_give_back = True

    def _close(self) -> None:
        self._try(lambda: self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE))
        self._connection.close()

    def _try(self, upkeep: Callable[[], object]) -> None:
        """Upkeep may fail (a full disk, a busy file): the events are safe in the log and it comes again."""
        try:
            upkeep()
        except apsw.Error:
            self._pages_to_give_back = False


def _failure(error: Exception) -> Exception:
    """What the caller of an append gets for an error of its transaction."""
    if not isinstance(error, apsw.Error):
        return error
    failure: StoreUnavailableError = database.unavailable(error)
    failure.__cause__ = error
    return failure
