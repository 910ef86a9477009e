"""The SQLite file of the read models: one writer, a few readers, each used by one thread at a time.

The file is derived from the event store. One that another version wrote, that was made from another store, or that is
damaged, is thrown away and built again; for the same reason a commit need not reach the disk at once.

A rebuild writes another file beside it (`Database.build`), which is nothing until it is sealed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

import apsw

from eventsourcing.errors import StoreUnavailableError
from monolith.readmodels import files
from monolith.readmodels.files import Origin
from monolith.readmodels.transactions import transaction
from monolith.threads import in_thread, to_its_end

T = TypeVar("T")

_READ_DEADLINE: Final = 30.0


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
        self._read_threads = ThreadPoolExecutor(max(1, len(readers)), "read-model-reader")
        self._read_turns = asyncio.Semaphore(len(readers))
        self._closed = False
        self.last_read = time.monotonic()
        """When a read began or ended last, by the monotonic clock."""

    @classmethod
    async def open(cls, path: Path, *, origin: Origin | None = None, readers: int = 4) -> Database:
        """Open or make the file at `path` (its folder exists). Blocks no loop; raises StoreUnavailableError."""
        with _translated(path):
            writer, connections = await asyncio.to_thread(files.open_checked, path, origin, readers)
        return cls(path, writer, connections)

    @classmethod
    async def open_sealed(cls, path: Path, *, readers: int = 4) -> Database:
        """Open a file that this process has sealed: it need not be looked through."""
        with _translated(path):
            writer, connections = await asyncio.to_thread(files.open_sealed, path, readers)
        return cls(path, writer, connections)

    @classmethod
    async def build(cls, path: Path, *, origin: Origin | None = None) -> Database:
        """Make a new file at `path`, removing what is there, in which one thread reads and writes; nothing is durable
        until `harden` or `seal`. Raises StoreUnavailableError."""
        opened: list[apsw.Connection] = []
        with _translated(path):
            try:
                await in_thread(lambda: opened.append(files.open_builder(path, origin)))
            except asyncio.CancelledError:
                for connection in opened:
                    connection.close()
                raise
        return cls(path, opened[0], [])

    @property
    def readers(self) -> int:
        """How many reads run at a time."""
        return self._reader_count

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work` in one transaction: all of it, or nothing if it raises."""

        def run() -> T:
            with transaction(self._writer):
                result = work(self._writer)
            return result

        return await self._submit(self._write_threads, run)

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work`, short and read-only, on a snapshot. Waits at most 30 s for its turn."""
        if not self._reader_count:
            return await self.write(work)
        self.last_read = time.monotonic()

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
            self.last_read = time.monotonic()

    async def empty_log(self) -> None:
        """Bring all that was written into the file itself: its log stays empty until the next write.

        Raises StoreUnavailableError also when readers of older snapshots do not end within seconds.
        """
        done = await self._submit(self._write_threads, lambda: files.empty_log(self._writer))
        if not done:
            raise StoreUnavailableError("the read models are too busy to be exchanged; try again")

    async def harden(self) -> None:
        """Bring a file that is being built onto the disk, and all that is written from now on."""
        await self._submit(self._write_threads, lambda: files.harden(self._writer))

    async def seal(self) -> None:
        """End the build: the file is on the disk, closed, and can be opened as any other."""
        await self._submit(self._write_threads, lambda: self._writer.pragma("journal_mode", "WAL"))
        await self.close()
        await asyncio.to_thread(files.sync, self.path)

    async def _submit(self, threads: ThreadPoolExecutor, run: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailableError("the read models are closed")
        future = asyncio.get_running_loop().run_in_executor(threads, run)
        with _translated(self.path):
            return await to_its_end(future)  # the connection belongs to the thread until it is done with it

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
        files.mark_of(path).touch()
        raise StoreUnavailableError(
            f"the read models are damaged ({error}); start the program again to have them built again"
        ) from error
    except apsw.Error as error:
        raise StoreUnavailableError(f"the read models cannot be used: {error}") from error
