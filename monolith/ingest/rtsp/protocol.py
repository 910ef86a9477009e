"""RTSP as bytes (RFC 2326, RFC 7826): bytes in, messages and interleaved frames out, sizes bounded.

A connection carries requests, responses and, between them, binary frames: `$`, channel, length (16 bits), payload.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

MAX_HEAD_BYTES: Final = 65_536
MAX_BODY_BYTES: Final = 1 << 20
_MAX_HEADERS: Final = 200
_MAX_BLANK_LINES: Final = 64
_FRAME_HEAD: Final = 4
_DOLLAR: Final = 0x24
_RTP_VERSION: Final = 2
_FIRST_RTCP, _BYE, _LAST_RTCP = 200, 203, 207
_STATUS: Final = re.compile(r"RTSP/[0-9]\.[0-9] ([0-9]{3})(?: (.*))?")
_REQUEST: Final = re.compile(r"([A-Za-z_]+) (\S+) RTSP/[0-9]\.[0-9]")


class RtspError(ValueError):
    """The bytes are no RTSP; says why."""


class Frame(NamedTuple):
    """An interleaved frame as it came, its four bytes of head included."""

    data: bytes

    @property
    def says_goodbye(self) -> bool:
        """Whether it is a compound RTCP packet with a BYE in it (RFC 3550, 6.6): the sender has nothing more."""
        at = _FRAME_HEAD
        while at + 4 <= len(self.data) and self.data[at] >> 6 == _RTP_VERSION:
            kind = self.data[at + 1]
            if not _FIRST_RTCP <= kind <= _LAST_RTCP:
                return False
            if kind == _BYE:
                return True
            at += 4 * (1 + int.from_bytes(self.data[at + 2 : at + 4]))
        return False


@dataclass(frozen=True)
class Message:
    """A request or a response. `headers`: in order, names as they came."""

    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def status(self) -> int | None:
        """Of a response; None for a request."""
        match = _STATUS.fullmatch(self.start_line)
        return int(match[1]) if match else None

    @property
    def reason(self) -> str:
        """The phrase behind the status of a response, printable characters alone; "" without."""
        match = _STATUS.fullmatch(self.start_line)
        phrase = (match[2] or "") if match else ""
        return "".join(character for character in phrase[:80] if character.isprintable())

    @property
    def method(self) -> str | None:
        """Of a request, in capitals; None for a response."""
        match = _REQUEST.fullmatch(self.start_line)
        return match[1].upper() if match else None

    def header(self, name: str) -> str | None:
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def with_header(self, name: str, value: str) -> Message:
        """`value` in place of all headers of that name."""
        others = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return Message(self.start_line, (*others, (name, value)), self.body)

    def encode(self) -> bytes:
        lines = [self.start_line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


Item: TypeAlias = Message | Frame


class RtspParser:
    """Feed it what comes from one side of a connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._blank_lines = 0
        self._searched = 0

    def feed(self, data: bytes) -> list[Item]:
        """What `data` completes, in order. Raises RtspError; the parser is of no use then."""
        self._buffer += data
        items: list[Item] = []
        while (item := self._next()) is not None:
            items.append(item)
        return items

    def _next(self) -> Item | None:
        self._drop_blank_lines()
        if not self._buffer:
            return None
        return self._frame() if self._buffer[0] == _DOLLAR else self._message()

    def _drop_blank_lines(self) -> None:
        """Between messages they mean nothing (some peers send them to keep the connection)."""
        while self._buffer and self._buffer[0] in b"\r\n":
            self._blank_lines += 1
            if self._blank_lines > _MAX_BLANK_LINES:
                raise RtspError("nothing but blank lines")
            del self._buffer[0]

    def _frame(self) -> Frame | None:
        if len(self._buffer) < _FRAME_HEAD:
            return None
        end = _FRAME_HEAD + int.from_bytes(self._buffer[2:4])
        if len(self._buffer) < end:
            return None
        return Frame(self._taken(end))

    def _message(self) -> Message | None:
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_HEAD_BYTES:
                raise RtspError(f"a message has more than {MAX_HEAD_BYTES} bytes of headers")
            return None
        self._searched = end
        if end > MAX_HEAD_BYTES:
            raise RtspError(f"a message has more than {MAX_HEAD_BYTES} bytes of headers")
        start_line, headers = _head(bytes(self._buffer[:end]))
        length = _content_length(headers)
        if len(self._buffer) < end + 4 + length:
            return None
        return Message(start_line, headers, self._taken(end + 4 + length)[end + 4 :])

    def _taken(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._searched = self._blank_lines = 0
        return data


def _head(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    start_line, *lines = data.decode("utf-8", "surrogateescape").split("\r\n")
    if not (_STATUS.fullmatch(start_line) or _REQUEST.fullmatch(start_line)):
        raise RtspError("a message begins with neither a request nor a status line")
    if len(lines) > _MAX_HEADERS:
        raise RtspError(f"a message has more than {_MAX_HEADERS} headers")
    return start_line, tuple(_header(line) for line in lines)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or "\n" in line or "\r" in line:
        raise RtspError("a header is malformed")
    return name.strip(), value.strip()


def _content_length(headers: tuple[tuple[str, str], ...]) -> int:
    """Bytes of the body. Raises RtspError where it is no number, said twice differently, or beyond the limit."""
    values = {value for name, value in headers if name.lower() == "content-length"}
    if not values:
        return 0
    text = values.pop()
    if values or not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > MAX_BODY_BYTES:
        raise RtspError(f"the length of a message is no number of at most {MAX_BODY_BYTES}")
    return int(text)
