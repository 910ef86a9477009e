"""Messages cut into chunks and put together again (RTMP 1.0, section 5.3).

Rules that peers rely on, each of them met in practice:

- A chunk of type 3 in the middle of a message repeats the extended timestamp, if the message has one. Some publishers
  leave it out: where the four bytes are not the message's own, they are payload.
- A chunk of type 3 that begins a message adds the delta of the message before; after a type 0, that is its timestamp.
  With an extended timestamp it brings its own delta.
- A new chunk stream begins with type 0; librtmp begins with type 1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

import msgspec

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.limits import Limits

DEFAULT_CHUNK_SIZE: Final = 128
_EXTENDED: Final = 0xFFFFFF
_MASK: Final = 0xFFFFFFFF
_HEADER_SIZES: Final = (11, 7, 3)
_CONTINUES: Final = 3
_LONGEST_RUN: Final = 1024
"""Chunks. Headers are looked at ahead of what is taken; this bounds the work where they do not go on."""
_ONE_BYTE_IDS: Final = 64
"""Chunk stream ids below this one lie in the first byte of a chunk, if they are above 1."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """`timestamp`: milliseconds, 32 bits. `stream_id`: the message stream; 0 is the connection itself."""

    type_id: int
    stream_id: int
    timestamp: int
    payload: bytes


class _ChunkStream:
    """The header of the newest message, which the next may refer to, and its payload while it comes (else None)."""

    __slots__ = ("chunk_id", "delta", "extended", "length", "payload", "stream_id", "timestamp", "type_id")

    def __init__(self, chunk_id: int) -> None:
        self.chunk_id = chunk_id
        self.timestamp = 0
        self.delta = 0
        self.extended = b""
        self.length = 0
        self.type_id = 0
        self.stream_id = 0
        self.payload: bytearray | None = None

    def message(self) -> Message:
        return Message(self.type_id, self.stream_id, self.timestamp, bytes(self.payload or b""))


class _IncompleteError(Exception):
    """A header goes on in bytes that are to come."""


class ChunkReader:
    """Messages out of bytes. It holds what has come of unfinished messages, and of one header; never more than
    `limits` allow. `largest` tells how many bytes a message of a type may have."""

    def __init__(self, limits: Limits, largest: Callable[[int], int]) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self._limits = limits
        self._largest = largest
        self._streams: dict[int, _ChunkStream] = {}
        self._current = _ChunkStream(0)
        self._left = 0  # bytes of the current chunk that are to come
        self._rest = b""
        self.held = 0

    def receive(self, data: bytes) -> Generator[Message, None, None]:
        """The messages that are complete with `data`, one by one: what the reader of one sets (`chunk_size`, `abort`)
        holds for the next. Exhaust or close it before the next call, which goes on where it was closed. Raises
        ProtocolError."""
        data = self._rest + data
        self._rest = b""
        at, end = 0, len(data)
        try:
            while at < end:
                if not self._left:
                    try:
                        at = self._header(data, at)
                    except _IncompleteError:
                        break
                at = self._payload(data, at)
                if not self._left and len(self._current.payload or b"") == self._current.length:
                    yield self._complete()
        finally:
            self._rest = data[at:]

    def abort(self, chunk_id: int) -> None:
        """Forget the unfinished message of a chunk stream, if there is one."""
        stream = self._streams.get(chunk_id)
        if stream is not None and stream.payload is not None:
            self.held -= len(stream.payload)
            stream.payload = None

    def _header(self, data: bytes, at: int) -> int:
        """Read a chunk's header; where its payload begins."""
        kind, chunk_id = data[at] >> 6, data[at] & 0x3F
        if chunk_id < 2:
            more = _take(data, at + 1, chunk_id + 1)
            at += len(more)
            chunk_id = 64 + int.from_bytes(more, "little")
        if kind == _CONTINUES:
            at = self._continue(self._known(chunk_id, kind), data, at + 1)
        else:
            at = self._begin(kind, chunk_id, data, at + 1)
        stream = self._current
        missing = stream.length - len(stream.payload or b"")
        self._left = missing if missing < self.chunk_size else self.chunk_size
        return at

    def _begin(self, kind: int, chunk_id: int, data: bytes, at: int) -> int:
        """A message with a header of its own, type 0 to 2."""
        fields = _take(data, at, _HEADER_SIZES[kind])
        at += len(fields)
        delta, extended = int.from_bytes(fields[:3], "big"), b""
        if delta == _EXTENDED:
            extended = _take(data, at, 4)
            at += 4
            delta = int.from_bytes(extended, "big")
        stream = self._known(chunk_id, kind)
        if stream.payload is not None:
            raise ProtocolError(
                f"a message began on chunk stream {chunk_id} after {len(stream.payload)} of {stream.length} bytes of "
                "the one before; only a chunk of type 3 may follow there"
            )
        if kind < 2:
            stream.length, stream.type_id = int.from_bytes(fields[3:6], "big"), fields[6]
        if kind == 0:
            stream.stream_id = int.from_bytes(fields[7:], "little")
        stream.timestamp = delta if kind == 0 else (stream.timestamp + delta) & _MASK
        stream.delta, stream.extended = delta, extended
        self._open(stream)
        return at

    def _continue(self, stream: _ChunkStream, data: bytes, at: int) -> int:
        """A chunk of type 3: more of a message, or one that is like the last."""
        if stream.extended:
            field = _take(data, at, 4)
            if stream.payload is None:
                stream.extended, stream.delta = field, int.from_bytes(field, "big")
            if field == stream.extended:
                at += 4
        if stream.payload is None:
            stream.timestamp = (stream.timestamp + stream.delta) & _MASK
            self._open(stream)
        self._current = stream
        return at

    def _known(self, chunk_id: int, kind: int) -> _ChunkStream:
        stream = self._streams.get(chunk_id)
        if stream is not None:
            return stream
        if kind > 1:
            raise ProtocolError(
                f"chunk stream {chunk_id} begins with a chunk of type {kind}, and must with type 0"
            )
        if len(self._streams) == self._limits.max_chunk_streams:
            raise ProtocolError(f"more than {self._limits.max_chunk_streams} chunk streams")
        stream = self._streams[chunk_id] = _ChunkStream(chunk_id)
        return stream

    def _open(self, stream: _ChunkStream) -> None:
        largest = self._largest(stream.type_id)
        if stream.length > largest:
            raise ProtocolError(
                f"a message of type {stream.type_id} with {stream.length} bytes; at most {largest} are allowed here"
            )
        stream.payload = bytearray()
        self._current = stream

    def _payload(self, data: bytes, at: int) -> int:
        """Take what is there of the current chunk, and of those behind it that go on with its message."""
        stream = self._current
        assert stream.payload is not None
        before = len(stream.payload)
        stream.payload += data[at : at + self._left]
        taken = len(stream.payload) - before
        self._left -= taken
        at += taken
        if not self._left and stream.length - len(stream.payload) >= self.chunk_size:
            at = self._run(data, at)
        self.held += len(stream.payload) - before
        if self.held > self._limits.max_held_size:
            raise ProtocolError(f"more than {self._limits.max_held_size} bytes of unfinished messages")
        return at

    def _run(self, data: bytes, at: int) -> int:
        """Take full chunks of the current message that follow one another, all at once. Most of a stream is this."""
        stream = self._current
        header = _CONTINUES << 6 | stream.chunk_id
        if stream.extended or stream.chunk_id >= _ONE_BYTE_IDS or data[at : at + 1] != bytes([header]):
            return at
        assert stream.payload is not None
        stride = self.chunk_size + 1
        whole = min(
            (len(data) - at) // stride, (stream.length - len(stream.payload)) // self.chunk_size, _LONGEST_RUN
        )
        headers = data[at : at + whole * stride : stride]
        alike = whole - len(headers.lstrip(headers[:1]))
        chunks = bytearray(data[at : at + alike * stride])
        del chunks[::stride]
        stream.payload += chunks
        return at + alike * stride

    def _complete(self) -> Message:
        message = self._current.message()
        self._current.payload = None
        self.held -= len(message.payload)
        return message


def _take(data: bytes, at: int, count: int) -> bytes:
    taken = data[at : at + count]
    if len(taken) < count:
        raise _IncompleteError
    return taken


def encode(message: Message, chunk_id: int, chunk_size: int) -> bytes:
    """A message as chunks, the first of type 0. `chunk_id`: 2 to 63; the timestamp is below 0xFFFFFF."""
    head = (
        bytes([chunk_id])
        + message.timestamp.to_bytes(3, "big")
        + len(message.payload).to_bytes(3, "big")
        + bytes([message.type_id])
        + message.stream_id.to_bytes(4, "little")
    )
    pieces = [message.payload[at : at + chunk_size] for at in range(0, len(message.payload), chunk_size)]
    return head + bytes([_CONTINUES << 6 | chunk_id]).join(pieces)
