"""A few threads that read the event store's file, each through a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import apsw

from eventsourcing.adapters._sqlite_database import unavailable
from eventsourcing.errors import StoreUnavailableError

T = TypeVar("T")

MAX_READS: Final = 64
"""Reads that run or wait for a thread; further callers wait in the event loop."""


class _Read:
    """One read: what to do, and the future that gets its outcome in the event loop."""

    __slots__ = ("done", "job")

    def __init__(self, job: Callable[[apsw.Connection], Any], done: asyncio.Future[Any]) -> None:
        self.job = job
        self.done = done


class Readers:
    """A thread for each connection. Bound to the event loop it is made in.

    Threads of its own, not an executor's: a read costs half as many hand-overs that way.
    """

    def __init__(self, connections: Sequence[apsw.Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MAX_READS)
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(c,), name="event-store-reader", daemon=True)
            for c in connections
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, job: Callable[[apsw.Connection], T]) -> T:
        """The result of `job`, called with a connection in a thread. Raises StoreUnavailableError.

        When the caller is cancelled, the job still holds its slot until it ends.
        """
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise StoreUnavailableError("the event store is closed")
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Read(job, done))
        return await done

    def _work(self, connection: apsw.Connection) -> None:
        while (read := self._queue.get()) is not None:
            result: object = None
            error: Exception | None = None
            try:
                result = read.job(connection)
            except apsw.Error as failure:
                error = unavailable(failure)
                error.__cause__ = failure
            except Exception as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who waited
                self._loop.call_soon_threadsafe(self._finish, read.done, result, error)
        connection.close()

    def _finish(self, done: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        self._slots.release()
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    async def close(self) -> None:
        """Refuse further reads, wait for running ones, close the connections."""
        self._closed = True
        for _ in range(MAX_READS):
            await self._slots.acquire()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        for _ in range(MAX_READS):
            self._slots.release()
