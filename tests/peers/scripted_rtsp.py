"""An RTSP server that answers as a test wants: hostile, wrong, or elsewhere; and a TLS front for a real one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from monolith.ingest.rtsp.protocol import Frame, RtspParser

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
    b"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


@dataclass(frozen=True)
class Asked:
    """A request as it came. `headers`: names in lower case."""

    method: str
    url: str
    headers: dict[str, str]

    def answer(self, status: str, body: bytes = b"", **headers: str) -> bytes:
        """With the CSeq of the request; `_` in names stands for `-`."""
        lines = [f"RTSP/1.0 {status}", f"CSeq: {self.headers.get('cseq', '0')}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*lines, "", ""]).encode() + body


Answer = Callable[[Asked], bytes | None]
"""What to send for a request; None: close the connection."""


@dataclass
class ScriptedRtsp:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)


@contextlib.asynccontextmanager
async def scripted_rtsp(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedRtsp]:
    server = ScriptedRtsp()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                request = _parsed(await reader.readuntil(b"\r\n\r\n"))
                server.asked.append(request)
                if (data := answer(request)) is None:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
        tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
        await _ended(tasks)


def _parsed(head: bytes) -> Asked:
    start, *lines = head.decode().rstrip().split("\r\n")
    method, url, _ = start.split(" ")
    pairs = (line.split(": ", 1) for line in lines)
    return Asked(method, url, {name.lower(): value for name, value in pairs})


@contextlib.asynccontextmanager
async def tls_front(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """TLS on the port that this yields, passed on to `port` on 127.0.0.1 in the clear."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, behind_writer))
                group.create_task(_pump(behind_reader, writer))
        finally:
            for opened in (writer, behind_writer):
                opened.transport.abort()
            tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
        await _ended(tasks)


@contextlib.asynccontextmanager
async def interrupting_front(port: int, message: bytes, frames: int) -> AsyncIterator[int]:
    """Passes on to an RTSP server at `port` on 127.0.0.1, and sends `message` behind so many interleaved frames."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        pump = asyncio.create_task(_pump(reader, behind_writer))
        try:
            with contextlib.suppress(ConnectionError):
                await _interrupted(behind_reader, writer, message, frames)
                await pump
        finally:
            pump.cancel()
            for opened in (writer, behind_writer):
                opened.transport.abort()
            tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
        await _ended(tasks)


async def _interrupted(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, frames: int
) -> None:
    """Pass on answers and interleaved frames, `message` behind the last of `frames` frames."""
    parser = RtspParser()
    while data := await reader.read(65536):
        for item in parser.feed(data):
            writer.write(item.data if isinstance(item, Frame) else item.encode())
            frames -= isinstance(item, Frame)
            if frames == 0 and isinstance(item, Frame):
                writer.write(message)
        await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    for task in tuple(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tuple(tasks))
