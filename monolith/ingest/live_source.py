"""What a publisher pushes to the program, as a decoder process gets it: Matroska over a Unix socket.

We say our token. Then frames come, each behind its length (four bytes, the highest first): the first one of an input
holds when its first picture came (Unix seconds, an IEEE 754 double), the others its Matroska bytes. A frame without a
byte ends an input: the format has changed, or pictures were lost, and the next one goes on in the same times; or there
is no more, which is the end in order. Between inputs, a length of `GAP` has behind it how many packets were lost there
(four bytes). A length of `BROKEN` has the reason in words behind it, up to the end of the connection.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Final

from monolith.ingest.checked_network import Watch
from monolith.ingest.errors import SourceError
from monolith.ingest.media import Feed, open_feed
from monolith.ingest.messages import SourceAccess
from monolith.ingest.reader import OpenVideo

LENGTH: Final = struct.Struct(">I")
ARRIVED: Final = struct.Struct(">d")
BROKEN: Final = 0xFFFF_FFFF
GAP: Final = 0xFFFF_FFFE
MOST_BYTES: Final = 64 << 20
"""Of a frame. Larger than any message that a publisher may send."""
_STEP_SECONDS: Final = 0.25
_RECEIVE_BYTES: Final = 256 << 10
_MOST_REASON: Final = 2000
_CONTAINER: Final = ("matroska",)


class LiveSource:
    """A `FollowedSource`: always live. Raises SourceError where the program does not answer."""

    live = True
    duration = None
    warnings: tuple[str, ...] = ()

    def __init__(self, access: SourceAccess, watch: Watch) -> None:
        self.container = access.transport
        self._watch = watch
        self._silence = access.read_timeout
        self._buffer = bytearray()
        self._frame_left = 0
        self._ended = False
        self.lost = 0
        try:
            self._socket = connected(Path(access.url), access.connect_timeout)
            self._socket.sendall(access.token.encode())
        except OSError as error:
            raise SourceError(f"the program hands over no pictures: {error}", permanent=False) from error
        self._socket.settimeout(_STEP_SECONDS)

    def inputs(self) -> Generator[OpenVideo, None, None]:
        """One for each format. Raises SourceError, not permanent, where the publisher broke off."""
        continued = False
        while (arrived := self._next_input()) is not None:
            feed = Feed(self._read)
            with open_feed(feed, _CONTAINER, live=True, demuxer="matroska", at_once=True) as video:
                video.arrived, video.goes_on = arrived, continued
                video.lost, self.lost = self.lost, 0
                yield video
            feed.check()
            self._pass_over_the_rest()
            continued = True

    def close(self) -> None:
        self._socket.close()

    def _next_input(self) -> float | None:
        """When its first picture came; None at the end in order."""
        if not self._fill(LENGTH.size, may_end=True):
            return None
        length = self._take_length()
        if length == GAP:
            self._fill(LENGTH.size)
            self.lost += LENGTH.unpack(self._take(LENGTH.size))[0]
            return self._next_input()
        if length != ARRIVED.size:
            raise SourceError("the program hands over something else than an input", permanent=False)
        self._fill(length)
        (arrived,) = ARRIVED.unpack(self._take(length))
        self._ended = False
        return float(arrived)

    def _read(self, size: int) -> bytes:
        """What there is of the input, at least a byte; empty at its end. For the demuxer."""
        while self._frame_left == 0:
            if self._ended:
                return b""
            self._fill(LENGTH.size)
            self._frame_left = self._take_length(most=MOST_BYTES)
            self._ended = self._frame_left == 0
        if not self._buffer:
            self._fill(1)
        data = self._take(min(size, self._frame_left, len(self._buffer)))
        self._frame_left -= len(data)
        return data

    def _pass_over_the_rest(self) -> None:
        """What the demuxer has not read of an input that it gave up."""
        while self._read(_RECEIVE_BYTES):
            self._watch()

    def _take_length(self, most: int = GAP) -> int:
        """Raises SourceError where the publisher broke off, or it is more than `most`."""
        (length,) = LENGTH.unpack(self._take(LENGTH.size))
        if length == BROKEN:
            raise SourceError(self._reason(), permanent=False)
        if length > most:
            raise SourceError(f"the program hands over {length} bytes at once", permanent=False)
        return int(length)

    def _reason(self) -> str:
        with suppress(SourceError):
            self._fill(_MOST_REASON, may_end=True)
        return self._buffer[:_MOST_REASON].decode(errors="replace") or "the publisher broke off"

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _fill(self, size: int, *, may_end: bool = False) -> bool:
        """Wait until there are `size` bytes. False when the connection ended before the first of them, where it may.
        Raises SourceError, and what the watch raises."""
        heard = time.monotonic()
        while len(self._buffer) < size:
            self._watch()
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                if time.monotonic() - heard > self._silence:
                    raise SourceError(
                        f"the publisher sent nothing for {self._silence:g} s", permanent=False
                    ) from None
                continue
            except OSError as error:
                raise SourceError(f"the program hands over no more: {error}", permanent=False) from error
            heard = time.monotonic()
            if not data and may_end and not self._buffer:
                return False
            if not data:
                raise SourceError("the program handed over no more", permanent=False)
            self._buffer += data
        return True


def connected(path: Path, timeout: float) -> socket.socket:
    """Through the folder's descriptor: a socket's path may have 107 bytes, a folder's more. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection
