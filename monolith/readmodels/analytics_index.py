"""What the analytics files hold: one SQLite file beside them, which also keeps how far their projection has come.

A file counts when the index names it: it is written and synced first. What the index does not name is left over from
an interruption.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.readmodels.analytics_files import STORED_SCHEMA
from monolith.readmodels.files import Origin
from monolith.readmodels.transactions import transaction

SIGNATURE: Final = f"1 {' '.join(f'{name}:{kind}' for name, kind in STORED_SCHEMA.items())}"
"""What the files look like: others are thrown away and written again."""

_TABLES: Final = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY CHECK(id = 1), commit_position INTEGER NOT NULL);
CREATE TABLE segments(
    run_id TEXT NOT NULL,
    segment INTEGER NOT NULL,
    video_id TEXT NOT NULL,
    commit_position INTEGER NOT NULL,
    first_frame INTEGER,
    last_frame INTEGER,
    first_time REAL,
    last_time REAL,
    rows INTEGER NOT NULL,
    file TEXT,
    PRIMARY KEY(run_id, segment)
) WITHOUT ROWID;
CREATE INDEX segments_by_video ON segments(video_id, segment);
CREATE TABLE parked(commit_position INTEGER, stream_name TEXT PRIMARY KEY, event_type TEXT, error TEXT);
"""
_BUSY_MILLISECONDS: Final = 5000
_LONGEST_ERROR: Final = 2000
_COLUMNS: Final = (
    "run_id, segment, video_id, commit_position, first_frame, last_frame, first_time, last_time, rows, file"
)


class IndexedSegment(msgspec.Struct, frozen=True, gc=False):
    """A closed segment of a run: results of frames `first_frame`…`last_frame`, at seconds `first_time`…`last_time`
    (None: it has none), in `rows` lines of `file` (None: expired, or deleted meanwhile).

    `commit_position`: of the event that said that it is closed.
    """

    run_id: str
    segment: int
    video_id: str
    commit_position: int
    first_frame: int | None
    last_frame: int | None
    first_time: float | None
    last_time: float | None
    rows: int
    file: str | None


class AnalyticsIndex:
    """Methods block, are safe in any thread, and raise StoreUnavailableError."""

    def __init__(self, path: Path) -> None:
        """Open or make `path`; its folder exists."""
        self._lock = threading.Lock()
        with _translated():
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(_BUSY_MILLISECONDS)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-1024"):
                self._connection.execute(f"PRAGMA {pragma}")
            if self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get is None:
                with self._connection:
                    self._connection.execute(_TABLES)
                    self._connection.execute("INSERT INTO meta VALUES('signature', ?)", (SIGNATURE,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def change(self) -> Iterator[_Change]:
        """All that is changed inside becomes durable together, or not at all."""
        with self._lock, _translated(), transaction(self._connection):
            yield _Change(self._connection)

    def flaw(self, origin: Origin | None) -> str | None:
        """Why the files cannot be used with this event store (None: any)."""
        if self._value("SELECT value FROM meta WHERE key = 'signature'") != SIGNATURE:
            return "are of another version"
        done = self.checkpoint()
        if origin is None or done is None:
            return None
        if self._value("SELECT value FROM meta WHERE key = 'store'") != origin.identity:
            return "were made from another event store"
        return "know more than the event store" if done > origin.last_position else None

    def checkpoint(self) -> int | None:
        found = self._value("SELECT commit_position FROM checkpoint")
        return None if found is None else int(found)

    def segments_of(self, run_id: str) -> list[IndexedSegment]:
        """The closed segments of a run, in order."""
        return self._segments("run_id = ? ORDER BY segment", (run_id,))

    def group_of(self, run_id: str, first: int, last: int) -> list[IndexedSegment]:
        """Those of the segments `first`…`last` that are closed, in order."""
        return self._segments(
            "run_id = ? AND segment BETWEEN ? AND ? ORDER BY segment", (run_id, first, last)
        )

    def segments_at(self, video_id: str, numbers: Iterable[int]) -> list[IndexedSegment]:
        """Of all runs over a video, those with these numbers."""
        wanted = msgspec.json.encode(list(numbers)).decode()
        return self._segments(
            "video_id = ? AND segment IN (SELECT value FROM json_each(?)) ORDER BY run_id, segment",
            (video_id, wanted),
        )

    def files(self) -> set[tuple[str, str, str]]:
        """All files that are named: video, run, file."""
        rows = self._rows("SELECT DISTINCT video_id, run_id, file FROM segments WHERE file IS NOT NULL", ())
        return set(rows)

    def parked_streams(self) -> list[str]:
        return [name for (name,) in self._rows("SELECT stream_name FROM parked", ())]

    def count(self, table: str) -> int:
        """Rows of `segments` or `parked`."""
        assert table in ("segments", "parked")
        return int(self._value(f"SELECT count(*) FROM {table}"))  # noqa: S608

    def _segments(self, condition: str, values: tuple[apsw.SQLiteValue, ...]) -> list[IndexedSegment]:
        rows = self._rows(f"SELECT {_COLUMNS} FROM segments WHERE {condition}", values)  # noqa: S608
        return [IndexedSegment(*row) for row in rows]

    def _rows(self, sql: str, values: tuple[apsw.SQLiteValue, ...]) -> list[Any]:
        with self._lock, _translated():
            return self._connection.execute(sql, values).fetchall()

    def _value(self, sql: str) -> Any:
        with self._lock, _translated():
            return self._connection.execute(sql).get


class _Change:
    """One transaction on the index."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def add(self, segments: Sequence[IndexedSegment]) -> None:
        """Name them; one that was named before stays as it was."""
        self._connection.executemany(
            f"INSERT OR IGNORE INTO segments({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [msgspec.structs.astuple(segment) for segment in segments],
        )

    def move(self, segments: Sequence[IndexedSegment], file: str | None) -> None:
        """They are in `file` now (None: nowhere any more)."""
        self._connection.executemany(
            "UPDATE segments SET file = ? WHERE run_id = ? AND segment = ?",
            [(file, segment.run_id, segment.segment) for segment in segments],
        )

    def forget_video(self, video_id: str) -> None:
        runs = self._connection.execute(
            "SELECT DISTINCT run_id FROM segments WHERE video_id = ?", (video_id,)
        ).fetchall()
        for (run_id,) in runs:
            self._connection.execute("DELETE FROM parked WHERE stream_name GLOB ?", (f"results-{run_id}-*",))
        self._connection.execute("DELETE FROM segments WHERE video_id = ?", (video_id,))

    def park(self, commit_position: int, stream_name: str, event_type: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        self._connection.execute(
            "INSERT OR REPLACE INTO parked VALUES(?, ?, ?, ?)",
            (commit_position, stream_name, event_type, text),
        )

    def advance(self, commit_position: int) -> None:
        """The checkpoint moves forward only."""
        self._connection.execute(
            "INSERT INTO checkpoint VALUES(1, ?1) ON CONFLICT DO UPDATE SET commit_position ="
            " max(commit_position, ?1)",
            (commit_position,),
        )

    def remember_store(self, identity: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES('store', ?)", (identity,))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StoreUnavailableError(f"the index of the analytics files cannot be used: {error}") from error
