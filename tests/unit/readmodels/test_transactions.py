from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from monolith.readmodels.transactions import transaction


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    opened = apsw.Connection(str(tmp_path / "x.db"))
    opened.execute("CREATE TABLE t(a INTEGER UNIQUE)")
    yield opened
    opened.close()


def values(path: Path) -> list[object]:
    """As another process sees them."""
    other = apsw.Connection(str(path / "x.db"))
    try:
        return [a for (a,) in other.execute("SELECT a FROM t ORDER BY a")]
    finally:
        other.close()


def test_all_of_it(connection: apsw.Connection, tmp_path: Path) -> None:
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("INSERT INTO t VALUES(2)")
        assert values(tmp_path) == []
    assert values(tmp_path) == [1, 2]


def test_or_nothing(connection: apsw.Connection, tmp_path: Path) -> None:
    with pytest.raises(apsw.ConstraintError), transaction(connection):
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("INSERT INTO t VALUES(1)")
    with pytest.raises(KeyError), transaction(connection):
        connection.execute("INSERT INTO t VALUES(3)")
        raise KeyError
    assert values(tmp_path) == []
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES(4)")
    assert values(tmp_path) == [4]


def test_what_sqlite_has_rolled_back_by_itself(connection: apsw.Connection, tmp_path: Path) -> None:
    with pytest.raises(apsw.ConstraintError), transaction(connection):
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("INSERT OR ROLLBACK INTO t VALUES(1)")
    assert not connection.in_transaction
    assert values(tmp_path) == []


def test_a_commit_that_fails_leaves_nothing_open(connection: apsw.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE child(a REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(apsw.ConstraintError), transaction(connection):
        connection.execute("INSERT INTO child VALUES(9)")
    assert not connection.in_transaction
