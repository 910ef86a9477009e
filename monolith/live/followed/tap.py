"""In a decoder process: the packets of its live source also go to the program, for those who watch.

Threads: the decoding one puts packets and never waits; one says what is to go out; one hears whether somebody watches.
What goes wrong here ends the watching, never the analysis.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from av.packet import Packet
from av.video.frame import VideoFrame

from monolith.ingest.live_source import LENGTH, connected
from monolith.ingest.messages import FeedAccess
from monolith.ingest.reader import OpenVideo
from monolith.live.followed.messages import WATCHED, Begun, Ended, FromSource
from monolith.live.followed.outlet import Outlet
from monolith.live.followed.packing import CODECS, Packer
from monolith.live.followed.times import TICKS, PacketClock, Spread
from monolith.live.packets import LivePacket

_CONNECT_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 30.0
_END_SECONDS: Final = 2.0
_ENCODE: Final = msgspec.msgpack.Encoder().encode

logger = logging.getLogger(__name__)


class Tap:
    """Of one connection to a source. `bursts`: its packets come many at once, and are spread over their time."""

    def __init__(self, access: FeedAccess, *, bursts: bool) -> None:
        self._access = access
        self._spread = Spread() if bursts else None
        self._clock = PacketClock()
        self._packer: Packer | None = None
        self._outlet = Outlet()
        self._changed = threading.Condition()
        self._socket: socket.socket | None = None
        self._begun = False
        self._lost = False
        self._ended: str | None = None
        self._put_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="packets for viewers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin(self, video: OpenVideo) -> None:
        """Another input: the packets that are put now are its."""
        name = video.stream.codec_context.codec.canonical_name
        codec = CODECS.get(name)
        self._packer = None if codec is None else Packer(codec, _bytes(video.stream.codec_context.extradata))
        if self._packer is None:
            logger.warning("pictures in %s cannot be watched live", name)
        if not video.goes_on and self._put_at is not None:
            self._clock.break_off()

    def put(self, packet: Packet[Any]) -> None:
        """A packet of the input, before it is decoded."""
        if self._packer is None or self._lost or not packet.size:
            return
        now = time.monotonic()
        if packet.has_sidedata("new_extradata"):
            self._packer.renew(bytes(packet.get_sidedata("new_extradata")))
        data = self._packer.pack(bytes(packet), keyframe=packet.is_keyframe)
        pts, dts = self._times(packet, now)
        self._put_at = now
        if not data:
            return
        live = LivePacket(self._packer.format, data, pts * TICKS, dts * TICKS, packet.is_keyframe, 0.0)
        due = now if self._spread is None else self._spread.due(dts / 1000, now)
        with self._changed:
            self._outlet.put(live, due)
            self._outlet.release(now, time.time())
            self._changed.notify_all()

    def source_time(self, picture: VideoFrame) -> float | None:
        """Seconds: the time that viewers' packets have for the picture; None where that is unknown."""
        milliseconds = None if picture.pts is None else self._clock.of(picture.pts)
        return None if milliseconds is None else milliseconds / 1000

    def end(self, reason: str) -> None:
        """Nothing more comes. `reason`: as in `Ended`. Waits a moment for what is left. Idempotent."""
        with self._changed:
            if self._ended is None:
                self._ended = reason
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
        self._close()

    def _times(self, packet: Packet[Any], now: float) -> tuple[int, int]:
        base = float(packet.time_base) if packet.time_base else None
        waited = 0.0 if self._spread is not None or self._put_at is None else now - self._put_at
        pts, dts = (None if one is None or base is None else one * base for one in (packet.pts, packet.dts))
        shown, decoded = self._clock.at(pts, dts, waited)
        if packet.pts is not None:
            self._clock.note(packet.pts, shown)
        return shown, decoded

    def _run(self) -> None:
        try:
            self._connect()
            while (message := self._next()) is not None:
                self._say(message)
        except OSError as error:
            if self._ended is None:
                logger.warning("viewers get no more pictures of this connection: %s", error)
        finally:
            self._lost = True
            self._close()

    def _connect(self) -> None:
        connection = connected(Path(self._access.address), _CONNECT_SECONDS)
        connection.settimeout(_WRITE_SECONDS)
        self._socket = connection
        connection.sendall(self._access.token.encode())
        threading.Thread(target=self._hear, args=(connection,), name="who watches", daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        """Whether somebody watches, until the program closes the connection."""
        try:
            while True:
                try:
                    said = connection.recv(64)
                except TimeoutError:
                    continue
                if not said:
                    break
                with self._changed:
                    self._outlet.watch(said.endswith(WATCHED))
                    self._changed.notify_all()
        except OSError:
            pass  # closed by us
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _next(self) -> FromSource | None:
        """What is to be said next; None after the last."""
        with self._changed:
            while not self._lost:
                if not self._begun and self._put_at is not None:
                    self._begun = True
                    return Begun()
                self._outlet.release(time.monotonic() if self._ended is None else float("inf"), time.time())
                if (pictures := self._outlet.take()) is not None:
                    return pictures
                if self._ended is not None:
                    self._lost = True
                    return Ended(self._ended)
                self._changed.wait(self._until_due())
        return None

    def _until_due(self) -> float | None:
        due = self._outlet.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    def _say(self, message: FromSource) -> None:
        assert self._socket is not None
        data = _ENCODE(message)
        self._socket.sendall(LENGTH.pack(len(data)))
        self._socket.sendall(data)

    def _close(self) -> None:
        """Wakes the threads that wait for the socket."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


def _bytes(extradata: bytes | None) -> bytes:
    return bytes(extradata) if extradata else b""
