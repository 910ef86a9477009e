"""The SQLite file of the read models: opening, checking, building and exchanging it. All of this blocks: for threads.

A file that is built beside the one in use is thrown away when it is interrupted: until it is sealed nothing of it is
durable. `exchange` puts it in the place of the other: a crash leaves one of the two, whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import apsw
import msgspec

from monolith.readmodels.schema import SIGNATURE, TABLES

_BUSY_MILLISECONDS: Final = 5000
_MAPPED_BYTES: Final = 4 << 30
_WRITER_CACHE_KB: Final = 4096
_READER_CACHE_KB: Final = 1024
"""Pages each connection keeps for itself, beside those that the system keeps of the file for all."""
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")

_CHECKED_BYTES: Final = 200 << 20
"""Up to this size the file is checked when it is opened: some tenths of a second."""

logger = logging.getLogger(__name__)


class Origin(msgspec.Struct, frozen=True):
    """The event store that a file is made from: its identity, and its last commit position."""

    identity: str
    last_position: int


def open_checked(
    path: Path, origin: Origin | None, readers: int
) -> tuple[apsw.Connection, list[apsw.Connection]]:
    try:
        writer = _open_writer(path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        logger.warning("the read models at %s are damaged (%s) and will be built again", path, error)
        remove_database(path)
        writer = _open_writer(path)
    if (flaw := _damage(writer, path) or _flaw(writer, origin)) is not None:
        logger.warning("the read models at %s %s and will be built again", path, flaw)
        writer.close()
        remove_database(path)
        writer = _open_writer(path)
    _sign(writer, origin)
    return writer, [_open_reader(path) for _ in range(readers)]


def open_sealed(path: Path, readers: int) -> tuple[apsw.Connection, list[apsw.Connection]]:
    return _open_writer(path), [_open_reader(path) for _ in range(readers)]


def open_builder(path: Path, origin: Origin | None) -> apsw.Connection:
    remove_database(path)
    connection = apsw.Connection(str(path))
    try:
        connection.transaction_mode = "IMMEDIATE"
        # A rollback needs a journal, but only as long as this process lives.
        _set(
            connection,
            "journal_mode=MEMORY",
            "synchronous=OFF",
            "locking_mode=EXCLUSIVE",
            "cache_size=-65536",
        )
        _make_tables(connection)
        _sign(connection, origin)
    except BaseException:
        connection.close()
        raise
    return connection


def _sign(writer: apsw.Connection, origin: Origin | None) -> None:
    """Write down which store the file is made from; one that holds nothing yet may have been begun for another."""
    if origin is not None:
        writer.execute("INSERT OR REPLACE INTO meta VALUES('store', ?)", (origin.identity,))


def mark_of(path: Path) -> Path:
    """The file that says that damage was found."""
    return path.with_name(path.name + ".damaged")


def _damage(writer: apsw.Connection, path: Path) -> str | None:
    """Whether damage was found before or, in a file that is quickly read, is found now."""
    if mark_of(path).exists():
        return "were found damaged"
    if path.stat().st_size > _CHECKED_BYTES:
        return None
    try:
        sound = writer.execute("PRAGMA quick_check(1)").get == "ok"
    except (apsw.CorruptError, apsw.NotADBError):
        sound = False
    return None if sound else "are damaged"


def _flaw(writer: apsw.Connection, origin: Origin | None) -> str | None:
    """Why the file cannot be used."""
    if not _is_current(writer):
        return "are of another version"
    done = writer.execute("SELECT max(commit_position) FROM checkpoints").get
    if origin is None or done is None:
        return None
    if writer.execute("SELECT value FROM meta WHERE key = 'store'").get != origin.identity:
        return "were made from another event store"
    return "know more than the event store" if done > origin.last_position else None


def _open_writer(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        connection.transaction_mode = "IMMEDIATE"
        _set(
            connection,
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "wal_autocheckpoint=4000",
            f"cache_size=-{_WRITER_CACHE_KB}",
        )
        if not _has_tables(connection):
            _make_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: apsw.Connection, *pragmas: str) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _make_tables(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO meta VALUES('signature', ?)", (SIGNATURE,))


def _has_tables(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get is not None


def _is_current(connection: apsw.Connection) -> bool:
    try:
        return bool(connection.execute("SELECT value FROM meta WHERE key = 'signature'").get == SIGNATURE)
    except apsw.SQLError:
        return False


def _open_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    _set(connection, "query_only=1", f"mmap_size={_MAPPED_BYTES}", f"cache_size=-{_READER_CACHE_KB}")
    return connection


def beside(path: Path) -> Path:
    """Where the file that is to take the place of the one at `path` is built."""
    return path.with_name(f"{path.name}.rebuild")


def remove_database(path: Path) -> None:
    """Remove the file at `path` and what SQLite keeps beside it."""
    for suffix in ("", *_SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    mark_of(path).unlink(missing_ok=True)


def harden(builder: apsw.Connection) -> None:
    """From now on a commit syncs the whole file, the first one here: what is written in it goes with the second."""
    _set(builder, "synchronous=NORMAL")
    for statement in ("INSERT INTO meta VALUES('hardened', '')", "DELETE FROM meta WHERE key = 'hardened'"):
        with builder:
            builder.execute(statement)


def empty_log(writer: apsw.Connection) -> bool:
    """Whether nothing is left in it; waits for readers of older snapshots as long as for any lock."""
    busy: int = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get[0]
    return not busy


def fold_log(path: Path) -> None:
    """Bring what a killed process left in the log of the file at `path` into the file, which nobody has open.

    A file that cannot be read is left as it is.
    """
    if not path.exists():
        return
    with contextlib.suppress(apsw.Error):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            empty_log(connection)
        finally:
            connection.close()


def exchange(beside: Path, path: Path) -> None:
    """Put the sealed file at `beside` in the place of the one at `path`, whose log must be empty or useless.

    Who has the old file open goes on reading it. Its side files go first: a log that outlived its file would be taken
    for the new one's.
    """
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    beside.replace(path)
    mark_of(path).unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the file or folder at `path` on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
