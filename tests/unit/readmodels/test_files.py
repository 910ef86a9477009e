"""A file is built beside another and takes its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from eventsourcing.errors import StoreUnavailableError
from monolith.readmodels import files
from monolith.readmodels.database import Database
from monolith.readmodels.files import Origin

ORIGIN = Origin("here", 100)


def put(connection: apsw.Connection, key: str) -> None:
    connection.execute("INSERT INTO meta VALUES(?, '')", (key,))


def keys(connection: apsw.Connection) -> set[str]:
    return {str(key) for (key,) in connection.execute("SELECT key FROM meta")} - {"signature", "store"}


def keys_of(path: Path) -> set[str]:
    """As a program finds them that starts now."""
    connection = apsw.Connection(str(path))
    try:
        return keys(connection)
    finally:
        connection.close()


async def sealed(path: Path, *found: str) -> Path:
    """A file that was built, with these keys."""
    builder = await Database.build(files.beside(path), origin=ORIGIN)
    for key in found:
        await builder.write(lambda c, key=key: put(c, key))  # type: ignore[misc]
    await builder.seal()
    return files.beside(path)


async def test_a_sealed_file_is_one_like_any_other(tmp_path: Path) -> None:
    beside = await sealed(tmp_path / "read.db", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["read.db.rebuild"]
    opened = await Database.open(beside, origin=ORIGIN)
    assert await opened.read(keys) == {"new"}
    assert await opened.read(lambda c: c.pragma("journal_mode")) == "wal"
    await opened.close()


async def test_a_failed_write_leaves_nothing_in_a_file_that_is_built(tmp_path: Path) -> None:
    builder = await Database.build(tmp_path / "read.db")

    def fail(connection: apsw.Connection) -> None:
        put(connection, "half")
        raise KeyError("poison")

    await builder.write(lambda c: put(c, "whole"))
    with pytest.raises(KeyError):
        await builder.write(fail)
    await builder.harden()
    assert await builder.read(keys) == {"whole"}
    await builder.close()


async def test_who_reads_the_old_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    old = await Database.open(path, origin=ORIGIN)
    await old.write(lambda c: put(c, "old"))
    await old.empty_log()
    files.exchange(await sealed(path, "new"), path)
    new = await Database.open_sealed(path)
    assert (await old.read(keys), await new.read(keys)) == ({"old"}, {"new"})
    await new.write(lambda c: put(c, "newer"))
    assert (await old.read(keys), await new.read(keys)) == ({"old"}, {"new", "newer"})
    # What the old one does when it is closed must not touch what the new one has beside its file.
    await old.close()
    await new.write(lambda c: put(c, "newest"))
    assert keys_of(path) == {"new", "newer", "newest"}
    await new.close()
    assert keys_of(path) == {"new", "newer", "newest"}


def leave_a_log(path: Path) -> None:
    """A file whose last write lies in its log alone, as a killed process leaves it."""
    writer = apsw.Connection(str(path))
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE meta(key TEXT, value TEXT)")
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    put(writer, "old")
    kept = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
    writer.close()
    for name, data in kept.items():
        path.with_name(path.name + name).write_bytes(data)


@pytest.mark.parametrize("stop_at", ["unlink", "replace", "never"])
async def test_a_crash_leaves_one_of_the_two_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    """Each step that changes the folder is the last one before a power failure, once."""
    path = tmp_path / "read.db"
    leave_a_log(path)
    beside = await sealed(path, "new")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    files.fold_log(path)
    with monkeypatch.context() as patched:
        if stop_at != "never":
            patched.setattr(Path, stop_at, crash)
        try:
            files.exchange(beside, path)
        except KeyboardInterrupt:
            assert stop_at != "never"
    assert keys_of(path) == ({"new"} if stop_at == "never" else {"old"})


async def test_the_log_of_the_old_file_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    """Also where it could not be folded in: a damaged file."""
    path = tmp_path / "read.db"
    leave_a_log(path)
    path.write_bytes(b"damaged" * 1000)
    files.mark_of(path).touch()
    beside = await sealed(path, "new")
    files.fold_log(path)
    files.exchange(beside, path)
    assert keys_of(path) == {"new"}
    assert not files.mark_of(path).exists()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(files, "_BUSY_MILLISECONDS", 10)
    yield


@pytest.mark.usefixtures("impatient")
async def test_a_reader_that_does_not_end_keeps_the_old_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    old = await Database.open(path)
    await old.write(lambda c: put(c, "first"))
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    assert keys(reader) == {"first"}
    await old.write(lambda c: put(c, "second"))
    with pytest.raises(StoreUnavailableError, match="too busy to be exchanged"):
        await old.empty_log()
    reader.close()
    await old.empty_log()
    assert path.with_name("read.db-wal").stat().st_size == 0
    await old.close()


async def test_what_is_hardened_is_written_through(tmp_path: Path) -> None:
    builder = await Database.build(tmp_path / "read.db", origin=ORIGIN)
    assert await builder.read(lambda c: c.pragma("synchronous")) == 0
    await builder.harden()
    assert await builder.read(lambda c: c.pragma("synchronous")) == 1
    assert await builder.read(keys) == set()
    await builder.close()


async def test_a_file_that_is_built_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    files.beside(path).write_bytes(b"what an interrupted rebuild left" * 100)
    files.remove_database(await sealed(path))
    assert list(tmp_path.iterdir()) == []
