"""The SQLite file of the event store: its tables, its statements, and what its errors mean.

A stream's head is not a row that every append rewrites: it is the greatest position in the index, or, where a
delete has emptied the stream, the `kept_version` that the delete wrote down. So positions never restart, and an
append touches only what it adds. The same holds for the store's last commit position (`kept_commit`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import apsw

from eventsourcing.errors import StoreUnavailableError

APPLICATION_ID: Final = 0x45565354
"""`EVST`: marks the file as an event store."""

SCHEMA_VERSION: Final = 1

BUSY_MILLISECONDS: Final = 5_000
"""How long to wait for another process that writes to the file."""

WRITER_CACHE_KB: Final = 4096
READER_CACHE_KB: Final = 1024
"""Pages each connection keeps for itself, beside those that the system keeps of the file for all."""

_SCHEMA: Final = """
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    kept_commit INTEGER NOT NULL
);
INSERT INTO store VALUES (1, 0);
CREATE TABLE stream_head (
    stream_id INTEGER PRIMARY KEY,
    stream_name TEXT NOT NULL UNIQUE,
    kept_version INTEGER,
    tombstoned INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE event (
    commit_position INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    stream_position INTEGER NOT NULL,
    recorded_at REAL NOT NULL,
    event_id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    metadata BLOB NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX event_by_stream ON event (stream_id, stream_position);
CREATE UNIQUE INDEX event_by_id ON event (event_id);
"""

_IDENTITY: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""Not part of `_SCHEMA`: files that were made before it get it when they are opened."""

SELECT_IDENTITY: Final = "SELECT value FROM meta WHERE key = 'identity'"

INSERT_EVENT: Final = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

SELECT_HEAD: Final = """
SELECT stream_id, kept_version, tombstoned,
       (SELECT max(stream_position) FROM event WHERE event.stream_id = stream_head.stream_id)
FROM stream_head WHERE stream_name = ?
"""

SELECT_LAST_COMMIT: Final = """
SELECT max(kept_commit, coalesce((SELECT max(commit_position) FROM event), 0)) FROM store
"""

# The columns in the order of RecordedEvent's fields: rows become events without a step of Python for each.
_COLUMNS: Final = (
    "SELECT stream_name, stream_position, commit_position, event_type, data, metadata, event_id, recorded_at"
)

# CROSS JOIN fixes which table is looked through and which is looked up.
SELECT_EVENTS: Final = f"{_COLUMNS} FROM event CROSS JOIN stream_head USING (stream_id)"
SELECT_STREAM: Final = f"{_COLUMNS} FROM stream_head CROSS JOIN event USING (stream_id)"


def open_all(
    path: str | os.PathLike[str], readers: int, max_bytes: int | None = None
) -> list[apsw.Connection]:
    """The connection that writes, then `readers` that cannot; makes the file where there is none.

    Raises StoreUnavailableError where the file cannot be opened or is something else.
    """
    connections: list[apsw.Connection] = []
    try:
        connections.append(apsw.Connection(os.fspath(path)))
        _prepare_writer(connections[0], max_bytes)
        for _ in range(readers):
            connections.append(apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READWRITE))
            _set(connections[-1], "query_only = 1", f"cache_size = -{READER_CACHE_KB}")
    except (apsw.Error, StoreUnavailableError) as error:
        for connection in connections:
            connection.close()
        if isinstance(error, apsw.Error):
            raise unavailable(error) from error
        raise
    return connections


def unavailable(error: apsw.Error) -> StoreUnavailableError:
    """What an error of SQLite means to a caller."""
    if isinstance(error, apsw.FullError):
        return StoreUnavailableError(f"the disk of the event store is full: {error}")
    return StoreUnavailableError(f"the event store's database failed: {type(error).__name__}: {error}")


def prefix_filter(prefixes: Sequence[str]) -> tuple[str, list[str]]:
    """A condition on `stream_name` (empty without prefixes, else starting with AND) and its parameters."""
    if not prefixes or "" in prefixes:
        return "", []
    clauses, parameters = [], []
    for prefix in prefixes:
        clauses.append("stream_name >= ?")
        parameters.append(prefix)
        if end := _after_all_with(prefix):
            clauses[-1] = "(stream_name >= ? AND stream_name < ?)"
            parameters.append(end)
    return f" AND ({' OR '.join(clauses)})", parameters


def _after_all_with(prefix: str) -> str:
    """The least string that sorts (by code points, as UTF-8 bytes do) after all that start with `prefix`;
    empty where there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:  # surrogates are no characters
        following = 0xE000
    return kept[:-1] + chr(following)


def _prepare_writer(connection: apsw.Connection, max_bytes: int | None) -> None:
    _set(connection, "page_size = 8192", "auto_vacuum = INCREMENTAL", "journal_mode = WAL")
    _set(connection, "synchronous = FULL")
    _set(
        connection,
        "wal_autocheckpoint = 0",
        "journal_size_limit = 67108864",
        f"cache_size = -{WRITER_CACHE_KB}",
    )
    if max_bytes is not None:
        _set(connection, f"max_page_count = {max(1, max_bytes // connection.pragma('page_size'))}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _make_schema(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _set(connection: apsw.Connection, *pragmas: str) -> None:
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _make_schema(connection: apsw.Connection) -> None:
    version = connection.pragma("user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if version == 0 and tables == 0:
        connection.execute(_SCHEMA)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
    elif (connection.pragma("application_id"), version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise StoreUnavailableError(f"{connection.filename} is no event store of version {SCHEMA_VERSION}")
    connection.execute(_IDENTITY)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (str(uuid4()),))
