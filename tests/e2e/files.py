"""A small HTTP server for files, and for servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def http_server(folder: Path, port: int = 0) -> AsyncIterator[str]:
    """Serves `folder` on loopback; yields its URL. `/hang` never answers, `/redirect?URL` redirects."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).split()
            await _answer(request[1].decode(), folder, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def _answer(target: str, folder: Path, writer: asyncio.StreamWriter) -> None:
    if target.startswith("/hang"):
        await asyncio.sleep(30)
    elif target.startswith("/redirect?"):
        location = target.removeprefix("/redirect?")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    elif (folder / target.strip("/")).is_file():
        body = (folder / target.strip("/")).read_bytes()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    else:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
