"""Types of messages, those that the server sends, and messages that hold others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp import chunks
from monolith.protocols.rtmp.chunks import Message

SET_CHUNK_SIZE: Final = 1
ABORT: Final = 2
ACKNOWLEDGEMENT: Final = 3
USER_CONTROL: Final = 4
WINDOW_SIZE: Final = 5
PEER_BANDWIDTH: Final = 6
AUDIO: Final = 8
VIDEO: Final = 9
DATA_AMF3: Final = 15
COMMAND_AMF3: Final = 17
DATA: Final = 18
COMMAND: Final = 20
AGGREGATE: Final = 22

STREAM_BEGIN: Final = 0
PING: Final = 6
PONG: Final = 7

_CONTROL_CHUNKS: Final = 2
_COMMAND_CHUNKS: Final = 3
_DYNAMIC: Final = 2
_TAG_HEADER: Final = 11
_BACK_POINTER: Final = 4


class Output:
    """What is to be sent, until it is taken: `size` bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        self._chunk_size = chunks.DEFAULT_CHUNK_SIZE

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return data

    def raw(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)

    def command(self, payload: bytes, stream_id: int = 0) -> None:
        self.raw(chunks.encode(Message(COMMAND, stream_id, 0, payload), _COMMAND_CHUNKS, self._chunk_size))

    def set_chunk_size(self, size: int) -> None:
        self._control(SET_CHUNK_SIZE, size.to_bytes(4, "big"))
        self._chunk_size = size

    def acknowledge(self, received: int) -> None:
        """`received`: bytes since the beginning."""
        self._control(ACKNOWLEDGEMENT, (received & 0xFFFFFFFF).to_bytes(4, "big"))

    def window(self, size: int) -> None:
        """Ask the peer for acknowledgements, and offer it the same window."""
        self._control(WINDOW_SIZE, size.to_bytes(4, "big"))
        self._control(PEER_BANDWIDTH, size.to_bytes(4, "big") + bytes([_DYNAMIC]))

    def user_control(self, event: int, data: bytes) -> None:
        self._control(USER_CONTROL, event.to_bytes(2, "big") + data)

    def _control(self, type_id: int, payload: bytes) -> None:
        self.raw(chunks.encode(Message(type_id, 0, 0, payload), _CONTROL_CHUNKS, self._chunk_size))


def number(message: Message) -> int:
    """The 32 bits that a protocol control message begins with. Raises ProtocolError where they are missing."""
    if len(message.payload) < 4:
        raise ProtocolError(
            f"a control message of type {message.type_id} with {len(message.payload)} of 4 bytes"
        )
    return int.from_bytes(message.payload[:4], "big")


def parts_of_aggregate(message: Message, most: int) -> Iterator[Message]:
    """The messages in an aggregate: FLV tags, whose times count from that of the first. Raises ProtocolError, also for
    more than `most` tags."""
    payload, at, first, tags = message.payload, 0, None, 0
    while at < len(payload):
        tags += 1
        if tags > most:
            raise ProtocolError(f"an aggregate message of more than {most} tags")
        header = payload[at : at + _TAG_HEADER]
        size = int.from_bytes(header[1:4], "big")
        body = payload[at + _TAG_HEADER : at + _TAG_HEADER + size]
        if len(header) < _TAG_HEADER or len(body) < size:
            raise ProtocolError("an aggregate message ends in the middle of a tag")
        stamp = int.from_bytes(header[7:8] + header[4:7], "big")
        first = stamp if first is None else first
        time = (message.timestamp + stamp - first) & 0xFFFFFFFF
        if header[0] != AGGREGATE:
            yield Message(header[0], message.stream_id, time, body)
        at += _TAG_HEADER + size + _BACK_POINTER
