"""What the server knows: streams, the order of all events, and the rules of appends and deletes.

Rules taken over from KurrentDB:
- An append repeated with the same ids at the place it expects is answered as before and stored once.
- A delete ("soft") writes `$tb` into the stream's metadata stream `$$NAME`; positions go on when it is written again.
- A tombstone ends a stream for ever, with an event `$streamDeleted` in it.
- `$all` shows the events of deleted streams until a scavenge.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

import msgspec

DELETED: Final = (1 << 63) - 1
"""`$tb` of a stream that was deleted; the event number of `$streamDeleted`."""
MAX_APPEND_BYTES: Final = 1 << 20
_RECORD_OVERHEAD: Final = 120
_TICKS: Final = 10_000_000
_position = attrgetter("position")
_number = attrgetter("number")


class Expect(Enum):
    ANY = -2
    NO_STREAM = -1
    EXISTS = -4


Expected: TypeAlias = int | Expect


class Proposed(msgspec.Struct, frozen=True):
    id: str
    type: str
    content_type: str
    data: bytes
    metadata: bytes


class Record(msgspec.Struct, frozen=True):
    stream: str
    number: int
    position: int
    created: int
    """In ticks of 100 ns since 1970."""
    event: Proposed


class Appended(NamedTuple):
    number: int
    position: int


class WrongVersionError(Exception):
    def __init__(self, stream: str, expected: Expected, actual: int) -> None:
        super().__init__(stream, expected, actual)
        self.stream = stream
        self.expected = expected
        self.actual = actual


class TombstonedError(Exception):
    pass


class NoStreamError(Exception):
    pass


class TooLargeError(Exception):
    pass


class _Stream:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.last = -1
        self.truncate_before = 0
        self.max_count: int | None = None
        self.tombstoned = False

    @property
    def deleted(self) -> bool:
        return self.truncate_before == DELETED

    def visible(self) -> list[Record]:
        start = bisect_left(self.records, self.truncate_before, key=_number)
        if self.max_count is not None:
            start = max(start, len(self.records) - self.max_count)
        return self.records[start:]


class Database:
    """Not for several threads. `changed` is called after each write."""

    def __init__(self, journal: Path | None = None) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.log: list[Record] = []
        self._streams: dict[str, _Stream] = {}
        self._by_id: dict[tuple[str, str], int] = {}
        self._next_position = _RECORD_OVERHEAD  # before it lie events of the server's own
        self._journal = None
        if journal is not None:
            if journal.exists():
                self._replay(journal)
            self._journal = journal.open("ab")

    # Writing

    def append(self, stream_name: str, expected: Expected, events: Sequence[Proposed]) -> Appended:
        if sum(len(event.data) + len(event.metadata) for event in events) > MAX_APPEND_BYTES:
            raise TooLargeError
        stream = self._streams.get(stream_name) or _Stream()
        if stream.tombstoned:
            raise TombstonedError(stream_name)
        before = self._appended_before(stream_name, stream, expected, events)
        if before is not None:
            return before
        self._check(stream_name, stream, expected)
        if stream.deleted:
            self._store(
                f"$${stream_name}", [_system("$metadata", json.dumps({"$tb": stream.last + 1}).encode())]
            )
        return self._store(stream_name, events)

    def _appended_before(
        self, name: str, stream: _Stream, expected: Expected, events: Sequence[Proposed]
    ) -> Appended | None:
        if expected in (Expect.ANY, Expect.EXISTS):
            number = self._by_id.get((name, events[0].id)) if events else None
        else:
            after = expected if isinstance(expected, int) else -1
            number = after + 1 if after < stream.last else None
        if number is None:
            return None
        start = bisect_left(stream.records, number, key=_number)
        there = stream.records[start : start + len(events)]
        if [record.event.id for record in there] == [event.id for event in events]:
            return Appended(there[-1].number, there[-1].position)
        if expected is Expect.NO_STREAM and stream.deleted:
            return None
        raise WrongVersionError(name, expected, stream.last)

    def _check(self, name: str, stream: _Stream, expected: Expected) -> None:
        if expected is Expect.ANY:
            return
        if expected is Expect.EXISTS:
            fits = stream.last >= 0 and not stream.deleted
        elif expected is Expect.NO_STREAM:
            fits = stream.last < 0 or stream.deleted
        else:
            fits = expected == stream.last
        if not fits:
            raise WrongVersionError(name, expected, stream.last)

    def delete(self, name: str, expected: Expected) -> int:
        stream = self._to_delete(name, expected)
        if stream.last < 0 or stream.deleted:
            raise NoStreamError(name)
        return self._store(
            f"$${name}", [_system("$metadata", json.dumps({"$tb": DELETED}).encode())]
        ).position

    def tombstone(self, name: str, expected: Expected) -> int:
        self._to_delete(name, expected)
        return self._store(name, [_system("$streamDeleted", b"")]).position

    def _to_delete(self, name: str, expected: Expected) -> _Stream:
        stream = self._streams.get(name) or _Stream()
        if stream.tombstoned:
            raise TombstonedError(name)
        self._check(name, stream, expected)
        return stream

    def scavenge(self) -> None:
        """Take what was deleted out of `$all`."""
        kept = {id(record) for stream in self._streams.values() for record in stream.visible()}
        self.log = [record for record in self.log if id(record) in kept]

    def _store(self, name: str, events: Iterable[Proposed]) -> Appended:
        created = int(time.time() * _TICKS)
        stream = self._streams.get(name)
        last = -1 if stream is None else stream.last
        records = []
        for number, event in enumerate(events, last + 1):
            number = DELETED if event.type == "$streamDeleted" else number
            records.append(Record(name, number, self._next_position, created, event))
            self._next_position += _RECORD_OVERHEAD + len(event.data) + len(event.metadata)
        for record in records:
            self._note(record)
        if self._journal is not None:
            self._journal.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
            self._journal.flush()
        self.changed()
        return Appended(records[-1].number, records[-1].position)

    def _note(self, record: Record) -> None:
        stream = self._streams.setdefault(record.stream, _Stream())
        self.log.append(record)
        if record.event.type == "$streamDeleted":
            stream.tombstoned = True
            stream.truncate_before = DELETED
            return
        stream.records.append(record)
        stream.last = record.number
        self._by_id[record.stream, record.event.id] = record.number
        if record.event.type == "$metadata" and record.stream.startswith("$$"):
            self._note_metadata(record)

    def _note_metadata(self, record: Record) -> None:
        document = json.loads(record.event.data)
        about = self._streams.setdefault(record.stream[2:], _Stream())
        about.truncate_before = document.get("$tb", 0)
        about.max_count = document.get("$maxCount")

    def _replay(self, journal: Path) -> None:
        whole = journal.read_bytes().rpartition(b"\n")[0]
        for line in whole.splitlines():
            record = msgspec.json.decode(line, type=Record)
            self._note(record)
            event = record.event
            self._next_position = record.position + _RECORD_OVERHEAD + len(event.data) + len(event.metadata)

    # Reading

    def read_stream(self, name: str, start: int | None, count: int, *, backwards: bool) -> list[Record]:
        """`start`: None for the beginning (backwards: the end). Raises NoStreamError, TombstonedError."""
        stream = self._streams.get(name)
        if stream is not None and stream.tombstoned:
            raise TombstonedError(name)
        if stream is None or stream.last < 0 or stream.deleted:
            raise NoStreamError(name)
        records = stream.visible()
        if not backwards:
            first = bisect_left(records, start or 0, key=_number)
            return records[first : first + count]
        end = len(records) if start is None else bisect_right(records, start, key=_number)
        return records[max(0, end - count) : end][::-1]

    def after(self, position: int | None, *, inclusive: bool = False) -> int:
        """Index in `log` of the first record after the position."""
        if position is None:
            return 0
        return (bisect_left if inclusive else bisect_right)(self.log, position, key=_position)


def _system(event_type: str, data: bytes) -> Proposed:
    return Proposed(str(uuid4()), event_type, "application/json", data, b"")
