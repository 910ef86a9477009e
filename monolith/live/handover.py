"""The socket between this program and its decoder processes (Unix). Whoever connects says a token that it was given.

From the feeds of publishers to the decoders that follow them: Matroska in frames, described in
`monolith.ingest.live_source`. Each connection has a reader of its own: a decoder that does not keep up loses packets up
to the next keyframe, and holds up nobody. And from the decoders of other live sources to those who watch:
`monolith.live.followed`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from monolith.application.ports import Invitation
from monolith.ingest.live_source import ARRIVED, BROKEN, GAP, LENGTH
from monolith.live.feeds import LiveFeeds, LiveReader
from monolith.live.followed.receiving import FollowedFeeds
from monolith.live.matroska import block, header
from monolith.live.packets import VideoFormat

_TOKEN_BYTES: Final = 32
_TOKEN_SECONDS: Final = 60.0
"""A decoder process may have to be started first."""
_HELLO_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 60.0
_MOST_INVITATIONS: Final = 4096
_NOBODY: Final = "nobody publishes now"
_NO_PICTURE: Final = "the publisher ended before its first picture"

logger = logging.getLogger(__name__)


class Readable(Protocol):
    """What is published (`monolith.application.push_sources.PushSources`). `feeds`: for those who watch."""

    @property
    def feeds(self) -> LiveFeeds: ...

    def read(self, video_id: str, *, look: bool) -> LiveReader | None: ...


class _Invited(NamedTuple):
    """`look`: None for who brings packets."""

    video_id: str
    look: bool | None
    until: float


class FeedHandover:
    """The `Handover` port. `path`: of its socket; nobody else may use its folder."""

    def __init__(self, feeds: Readable, path: Path) -> None:
        self._feeds = feeds
        self._path = path
        self._invited: dict[str, _Invited] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self.followed = FollowedFeeds(feeds.feeds)
        self.dropped = 0
        """Packets that decoder processes were too slow for."""

    def invite(self, video_id: str, *, look: bool) -> Invitation:
        return self._invitation(video_id, look)

    def accept(self, video_id: str) -> Invitation:
        return self._invitation(video_id, None)

    def _invitation(self, video_id: str, look: bool | None) -> Invitation:
        now = _now()
        for token, invited in list(self._invited.items()):
            if invited.until < now or len(self._invited) >= _MOST_INVITATIONS:
                del self._invited[token]
        token = secrets.token_hex(_TOKEN_BYTES // 2)
        self._invited[token] = _Invited(video_id, look, now + _TOKEN_SECONDS)
        return Invitation(str(self._path), token)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Raises OSError where there can be no socket."""
        listener = await asyncio.to_thread(_bound, self._path)
        server = await asyncio.start_unix_server(self._connected, sock=listener)
        try:
            yield
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            if self._connections:
                await asyncio.wait(self._connections)
            with suppress(OSError):
                await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
            logger.debug("a decoder process has left its pictures: %r", error)
        except asyncio.CancelledError:
            pass  # the program ends; the task is ours
        finally:
            self._connections.discard(task)
            writer.close()  # what was written still goes out

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HELLO_SECONDS):
            token = (await reader.readexactly(_TOKEN_BYTES)).decode("ascii", "replace")
        invited = self._invited.pop(token, None)
        if invited is not None and invited.look is None:
            return await self.followed.receive(invited.video_id, reader, writer)
        packets = None if invited is None else self._feeds.read(invited.video_id, look=bool(invited.look))
        if packets is None:
            return await _write(writer, _broken(_NOBODY))
        async with packets:
            try:
                await _until_gone(reader, _hand_over(packets, writer))
            finally:
                self.dropped += packets.dropped


async def _hand_over(packets: LiveReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, up to the end of the feed, and how it ended. Raises OSError, TimeoutError."""
    current: VideoFormat | None = None
    lost = 0
    async for packet in packets:
        lost += packets.take_lost()
        if lost or packet.format != current:
            if not packet.keyframe:
                lost += current is not None
                continue
            end = b"" if current is None else LENGTH.pack(0)
            begin = _frame(ARRIVED.pack(packet.arrived)) + _frame(header(packet.format))
            await _write(writer, end + _gap(lost) + begin)
            current, lost = packet.format, 0
        await _write(writer, _frame(block(packet)))
    await _write(writer, _end(packets.reason, lost + packets.take_lost(), begun=current is not None))


def _end(reason: str, lost: int, *, begun: bool) -> bytes:
    """`reason`: empty at the end in order. `lost`: packets behind the last one that was handed over."""
    end = (LENGTH.pack(0) if begun and (lost or not reason) else b"") + _gap(lost)
    if not begun:
        reason = reason or _NO_PICTURE
    return end + _broken(reason) if reason else end


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Raises OSError, TimeoutError."""
    if writer.is_closing():  # uvloop raises a RuntimeError where the other side has gone
        raise ConnectionResetError("the decoder process has gone")
    writer.write(data)
    async with asyncio.timeout(_WRITE_SECONDS):
        await writer.drain()


async def _until_gone(reader: asyncio.StreamReader, work: Coroutine[None, None, None]) -> None:
    """Do `work`, as long as the other side is there: it says nothing more. Raises what `work` raises."""
    working, gone = asyncio.create_task(work), asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait({working, gone})


def _frame(content: bytes) -> bytes:
    return LENGTH.pack(len(content)) + content


def _gap(lost: int) -> bytes:
    return LENGTH.pack(GAP) + LENGTH.pack(lost) if lost else b""


def _broken(reason: str) -> bytes:
    return LENGTH.pack(BROKEN) + reason.encode()


def _bound(path: Path) -> socket.socket:
    """A listening socket that only this user reaches, whatever was there before; named as in `live_source`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def _now() -> float:
    return asyncio.get_running_loop().time()
