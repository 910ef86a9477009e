"""A network between two programs that can be cut: nothing is said on either side, as when a cable is pulled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Network:
    """Passes on TCP connections to `port` of this machine, while it is not cut. `port` of its own is `here`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.here = 0
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """From now on no byte gets through, and no connection is made; none is closed, either."""
        self._whole.clear()

    def mend(self) -> None:
        """What was on its way is lost with its connections; new ones can be made."""
        for writer in self._writers:
            writer.transport.abort()
        self._whole.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Network]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.here = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError):
            await self._pass_on(reader, writer)
        self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            ways = [self._way(reader, far_writer), self._way(far_reader, writer)]
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
