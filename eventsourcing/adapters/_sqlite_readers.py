"""A few threads that read the event store's file, each through a connection of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from eventsourcing.adapters._sqlite_database import unavailable
from eventsourcing.errors import StoreUnavailableError

T = TypeVar("T")


class Readers:
    """One read at a time on each connection; further callers wait for a free one. Bound to one event loop."""

    def __init__(self, connections: Sequence[apsw.Connection]) -> None:
        self._idle = deque(connections)
        self._count = len(connections)
        self._slots = asyncio.Semaphore(self._count)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="event-store-reader")
        self._closed = False

    async def run(self, job: Callable[[apsw.Connection], T]) -> T:
        """The result of `job`, called with a connection in a thread. Raises StoreUnavailableError.

        When the caller is cancelled, the job still holds its slot until it ends.
        """
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise StoreUnavailableError("the event store is closed")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._read, job)
        running.add_done_callback(self._free_slot)
        return await asyncio.shield(running)

    def _read(self, job: Callable[[apsw.Connection], T]) -> T:
        connection = self._idle.pop()
        try:
            return job(connection)
        except apsw.Error as error:
            raise unavailable(error) from error
        finally:
            self._idle.append(connection)

    def _free_slot(self, done: asyncio.Future[T]) -> None:
        self._slots.release()
        if not done.cancelled():
            done.exception()  # seen, also where the caller has gone

    async def close(self) -> None:
        """Wait for running reads, refuse further ones, close the connections."""
        self._closed = True
        for _ in range(self._count):
            await self._slots.acquire()
        self._threads.shutdown(wait=True)
        for connection in self._idle:
            connection.close()
        for _ in range(self._count):
            self._slots.release()
