"""An HTTP server that does exactly what a test wants, right or wrong."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

BODY = random.Random(1).randbytes(3_000_000)


class Request(msgspec.Struct):
    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """First byte asked for; 0 without Range."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each connection's only request with `handler`; remembers the requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.base = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.split(": ", 1) for line in head[1:] if line)
            request = Request(head[0].split()[1], {name.lower(): value for name, value in fields})
            self.requests.append(request)
            await self._handler(request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """On 127.0.0.1; with `tls` its name is localhost."""
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.base = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    async with listener:
        yield server
        await server.close()


def head(status: str, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: bytes = BODY, **headers: object) -> bytes:
    return head("200 OK", Content_Length=len(body), **headers) + body


def part(start: int, body: bytes = BODY, **headers: object) -> bytes:
    content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return (
        head("206 Partial Content", Content_Length=len(body) - start, Content_Range=content_range, **headers)
        + body[start:]
    )


def answering(answer: bytes) -> Handler:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return handler
