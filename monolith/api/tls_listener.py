"""Takes connections for HTTPS, and tells those that come by plain HTTP where they are right.

The first byte of a connection says which it is: a TLS handshake begins with 22, no HTTP request does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from monolith.api.http_protocol import ClientConnections

logger = logging.getLogger(__name__)

_HELLO: Final = 22
_HELLO_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0
_MOST_PENDING: Final = 500
_PAUSE: Final = 0.1
_MOST_HEAD: Final = 8192
_REQUEST: Final = re.compile(rb"(GET|HEAD) (/[\x21-\x7e]*) HTTP/1\.[01]\r\n")
_HOST: Final = re.compile(rb"\r\nhost: *([A-Za-z0-9.:\[\]_-]{1,255}) *\r\n", re.IGNORECASE)
_SECRET: Final = re.compile(rb"\r\n(authorization|x-api-key|cookie):", re.IGNORECASE)


class TlsListener:
    """Like an asyncio server, as far as uvicorn needs one. `clients`: how many handshakes each may have under way."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        clients: ClientConnections,
    ) -> None:
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._clients = clients
        self._pending: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name="HTTPS listener")

    def close(self) -> None:
        for task in (self._accepting, *self._pending):
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, *self._pending, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:  # no file descriptor left, or the peer is gone already
                logger.warning("a connection could not be taken: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            connection.setblocking(False)
            if len(self._pending) >= _MOST_PENDING or not self._clients.enter(address[0]):
                connection.close()
                continue
            task = asyncio.create_task(self._greet(connection), name="TLS handshake")
            self._pending.add(task)
            task.add_done_callback(partial(self._greeted, address[0]))

    def _greeted(self, host: str, task: asyncio.Task[None]) -> None:
        self._pending.discard(task)
        self._clients.leave(host)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a connection failed", exc_info=task.exception())

    async def _greet(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                first = await _peek(connection)
                if first != bytes([_HELLO]):
                    await _show_the_way(connection) if first else connection.close()
                    return
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._protocol, connection, ssl=self._context, ssl_shutdown_timeout=_GOODBYE_SECONDS
                )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


async def _peek(connection: socket.socket) -> bytes:
    """The first byte, left where it is; b"" where none comes."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection.fileno())
    return connection.recv(1, socket.MSG_PEEK)


async def _show_the_way(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_MOST_HEAD)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(plain_answer(head))
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # no HTTP either
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def plain_answer(head: bytes) -> bytes:
    """To a plain request on the port of HTTPS: a redirect for who only reads a page; whoever sends more than that must
    learn of it, since the request has gone over the network for everyone to see."""
    request, host = _REQUEST.match(head), _HOST.search(head)
    location = b"https://" + host[1] if host else b"https"
    if request and host and not _SECRET.search(head):
        status, more = b"308 Permanent Redirect", b"Location: " + location + request[2] + b"\r\n"
    else:
        status, more = b"400 Bad Request", b""
    body = b"This port speaks HTTPS only: use " + location + b"\n"
    length = str(len(body)).encode()
    return (
        b"HTTP/1.1 " + status + b"\r\n" + more + b"Content-Type: text/plain\r\nContent-Length: " + length
        + b"\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n" + body
    )  # fmt: skip
