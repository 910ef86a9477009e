"""Comparing two read-model files, row by row, in all tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

Rows = dict[str, list[tuple[Any, ...]]]

_ON_THE_WAY = frozenset({"doomed"})
"""Rows that only say what has still to be removed: compare after `ReadModels.clean`, when there are none."""


def rows(path: Path) -> Rows:
    """All rows of the file at `path`, by table, sorted. A program may have the file open.

    Columns, too: they come first. Numbers that SQLite keeps for AUTOINCREMENT are a table like any other.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("PRAGMA query_only=1")
        with connection:  # one snapshot
            found = {table: _rows(connection, table) for table in _tables(connection)}
    finally:
        connection.close()
    return found


def assert_same_rows(one: Path, other: Path) -> Rows:
    """The rows that both files hold. Fails with the first rows that only one of them has, and names their table."""
    ours, theirs = rows(one), rows(other)
    assert ours.keys() == theirs.keys()
    for table in ours:
        if table not in _ON_THE_WAY:
            left, right = set(map(repr, ours[table])), set(map(repr, theirs[table]))
            assert sorted(left - right)[:3] == sorted(right - left)[:3], f"rows of {table} differ"
            assert len(ours[table]) == len(theirs[table]), f"{table} holds rows twice"
    return ours


def count(found: Rows, table: str) -> int:
    """How many rows, without that of the columns' names."""
    return len(found[table]) - 1


def _tables(connection: apsw.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    return [str(name) for (name,) in found]


def _rows(connection: apsw.Connection, table: str) -> list[tuple[Any, ...]]:
    columns = tuple(str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})"))
    found: list[tuple[Any, ...]] = connection.execute(f"SELECT * FROM {table}").fetchall()
    return [columns, *sorted(found, key=repr)]
