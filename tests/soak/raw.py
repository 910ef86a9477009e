"""Raw connections that send what no good program sends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.peers.rtmp_publisher import RtmpPublisher

DEADLINE = 60.0
"""Whoever must be sent away is sent away by then."""


class Wire:
    """An RTMP connection. `publisher`: makes what it sends; `received`: all that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.publisher = RtmpPublisher()
        self.received = b""
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Returns at once where the other side has closed."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            async with asyncio.timeout(DEADLINE):
                await self._writer.drain()

    async def until_told(self, word: str) -> None:
        """Raises AssertionError when the connection is closed without it, TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            while word.encode() not in self.received:
                data = await self._read()
                assert data, f"closed without {word}: {self.received[-200:]!r}"
                self.received += data

    async def until_closed(self) -> None:
        """By the program. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            while data := await self._read():
                self.received += data

    def abort(self) -> None:
        """Without a word, as a machine that loses its network after an RST."""
        self._writer.transport.abort()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""


@asynccontextmanager
async def wire_to(port: int, own_address: str = "127.0.0.1") -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(own_address, 0))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.contextmanager
def deaf_socket(port: int) -> Iterator[socket.socket]:
    """A client's socket that takes hardly any answer."""
    deaf = socket.socket()
    try:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.setblocking(False)
        yield deaf
    finally:
        deaf.close()
