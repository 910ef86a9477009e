"""The SQLite file of the read models: one writer, a few readers, each used by one thread at a time.

The file is derived from the event store. One that another version wrote, that was made from another store, or that is
damaged, is thrown away and built again; for the same reason a commit need not reach the disk at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

import apsw
import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.readmodels.schema import SIGNATURE, TABLES

T = TypeVar("T")

_READ_DEADLINE: Final = 30.0
_BUSY_MILLISECONDS: Final = 5000
_MAPPED_BYTES: Final = 4 << 30
_SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")

_CHECKED_BYTES: Final = 200 << 20
"""Up to this size the file is checked when it is opened: some tenths of a second."""

logger = logging.getLogger(__name__)


class Origin(msgspec.Struct, frozen=True):
    """The event store that a file is made from: its identity, and its last commit position."""

    identity: str
    last_position: int


class Database:
    """Runs functions on connections in threads. Raises StoreUnavailableError when closed, full or too busy."""

    def __init__(self, path: Path, writer: apsw.Connection, readers: list[apsw.Connection]) -> None:
        self.path = path
        self._writer = writer
        self._readers: SimpleQueue[apsw.Connection] = SimpleQueue()
        for reader in readers:
            self._readers.put(reader)
        self._reader_count = len(readers)
        self._write_threads = ThreadPoolExecutor(1, "read-model-writer")
        self._read_threads = ThreadPoolExecutor(len(readers), "read-model-reader")
        self._read_turns = asyncio.Semaphore(len(readers))
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, origin: Origin | None = None, readers: int = 4) -> Database:
        """Open or make the file at `path` (its folder exists). Blocks no loop; raises StoreUnavailableError."""
        with _translated(path):
            writer, connections = await asyncio.to_thread(_open, path, origin, readers)
        return cls(path, writer, connections)

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` in one transaction: all of it, or nothing if it raises."""

        def run() -> T:
            with self._writer:
                result = work(self._writer)
            return result

        return await self._submit(self._write_threads, run)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work`, short and read-only, on a snapshot. Waits at most 30 s for its turn."""

        def run() -> T:
            connection = self._readers.get_nowait()
            try:
                with connection:
                    result = work(connection)
                return result
            finally:
                self._readers.put(connection)

        try:
            async with asyncio.timeout(_READ_DEADLINE):
                await self._read_turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError("the read models are too busy; try again") from error
        try:
            return await self._submit(self._read_threads, run)
        finally:
            self._read_turns.release()

    async def _submit(self, threads: ThreadPoolExecutor, run: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailableError("the read models are closed")
        future = asyncio.get_running_loop().run_in_executor(threads, run)
        with _translated(self.path):
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                # The connection belongs to the thread until it is done with it: wait, then give up.
                await asyncio.wait((future,))
                if not future.cancelled():
                    future.exception()
                raise

    async def close(self) -> None:
        """Finish what runs and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._read_threads.shutdown()
        self._write_threads.shutdown()
        for _ in range(self._reader_count):
            self._readers.get_nowait().close()
        self._writer.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors of the file and the disk as StoreUnavailableError; mistakes in SQL stay what they are.

    A damaged file is marked, so that the next `open` builds it again.
    """
    try:
        yield
    except (apsw.SQLError, apsw.ConstraintError, apsw.MismatchError):
        raise
    except (apsw.CorruptError, apsw.NotADBError) as error:
        _mark_of(path).touch()
        raise StoreUnavailableError(
            f"the read models are damaged ({error}); start the program again to have them built again"
        ) from error
    except apsw.Error as error:
        raise StoreUnavailableError(f"the read models cannot be used: {error}") from error


def _open(path: Path, origin: Origin | None, readers: int) -> tuple[apsw.Connection, list[apsw.Connection]]:
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
    if origin is not None:
        writer.execute("INSERT OR IGNORE INTO meta VALUES('store', ?)", (origin.identity,))
    return writer, [_open_reader(path) for _ in range(readers)]


def _mark_of(path: Path) -> Path:
    """The file that says that damage was found."""
    return path.with_name(path.name + ".damaged")


def _damage(writer: apsw.Connection, path: Path) -> str | None:
    """Whether damage was found before or, in a file that is quickly read, is found now."""
    if _mark_of(path).exists():
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
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "wal_autocheckpoint=4000",
            "cache_size=-8192",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if not _has_tables(connection):
            with connection:
                connection.execute(TABLES)
                connection.execute("INSERT INTO meta VALUES('signature', ?)", (SIGNATURE,))
    except BaseException:
        connection.close()
        raise
    return connection


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
    connection.execute("PRAGMA query_only=1")
    connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
    return connection


def remove_database(path: Path) -> None:
    """Remove the file at `path` and what SQLite keeps beside it."""
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    _mark_of(path).unlink(missing_ok=True)
