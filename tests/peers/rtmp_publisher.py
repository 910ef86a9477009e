"""A publisher's side of RTMP without I/O, for what real publishers never send. Written from the specification alone: it
shares no code with the server.

    connection.write(publisher.hello() + publisher.connect() + publisher.create_stream() + publisher.publish("key"))
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HANDSHAKE = 1536
AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20


def amf(*values: Any) -> bytes:
    """AMF 0 of None, bool, numbers, str, dict and list."""
    return b"".join(map(_amf, values))


def _amf(value: Any) -> bytes:
    match value:
        case None:
            return b"\x05"
        case bool():
            return b"\x01" + (b"\x01" if value else b"\x00")
        case int() | float():
            return b"\x00" + struct.pack(">d", value)
        case str():
            return b"\x02" + _name(value)
        case dict():
            return b"\x03" + b"".join(_name(key) + _amf(item) for key, item in value.items()) + b"\0\0\x09"
        case list():
            return b"\x0a" + struct.pack(">I", len(value)) + amf(*value)
    raise TypeError(f"no AMF for {value!r}")


def _name(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def basic_header(kind: int, chunk_id: int) -> bytes:
    """1 to 3 bytes, the shortest form."""
    if chunk_id < 64:
        return bytes([kind << 6 | chunk_id])
    if chunk_id < 320:
        return bytes([kind << 6, chunk_id - 64])
    return bytes([kind << 6 | 1]) + struct.pack("<H", chunk_id - 64)


def chunk_header(
    kind: int, chunk_id: int, *, time: int = 0, size: int = 0, type_id: int = 0, stream_id: int = 0
) -> bytes:
    """The head of a chunk. `time`: the timestamp of type 0, the delta of types 1 and 2; from 0xFFFFFF extended. Type 3
    has none of them (`time` from 0xFFFFFF: extended all the same)."""
    extended = struct.pack(">I", time) if time >= 0xFFFFFF else b""
    stamp = min(time, 0xFFFFFF).to_bytes(3, "big")
    fields = [
        stamp + size.to_bytes(3, "big") + bytes([type_id]) + struct.pack("<I", stream_id),
        stamp + size.to_bytes(3, "big") + bytes([type_id]),
        stamp,
        b"",
    ]
    return basic_header(kind, chunk_id) + fields[kind] + extended


def control(type_id: int, value: int) -> bytes:
    """A protocol control message of one number: 1 Set Chunk Size, 2 Abort, 3 Acknowledgement, 5 Window Size."""
    return chunk_header(0, 2, size=4, type_id=type_id) + struct.pack(">I", value)


def user_control(event: int, data: bytes) -> bytes:
    return chunk_header(0, 2, size=2 + len(data), type_id=4) + struct.pack(">H", event) + data


@dataclass
class RtmpPublisher:
    """What it returns is to be sent. It does not wait for answers, nor look at them."""

    chunk_size: int = 128
    stream_id: int = 1
    _transaction: int = field(default=0, init=False)

    def hello(self, c1: bytes = bytes(HANDSHAKE), c2: bytes = bytes(HANDSHAKE)) -> bytes:
        """C0, C1 and C2."""
        return b"\x03" + c1 + c2

    def message(
        self,
        type_id: int,
        payload: bytes,
        *,
        time: int = 0,
        stream_id: int = 0,
        chunk_id: int = 3,
        kind: int = 0,
    ) -> bytes:
        """A message as chunks of `chunk_size`, the first one of type `kind`, with `time` in it as it is."""
        size = self.chunk_size
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        first = chunk_header(
            kind, chunk_id, time=time, size=len(payload), type_id=type_id, stream_id=stream_id
        )
        return first + chunk_header(3, chunk_id, time=time).join(pieces)

    def command(
        self, name: str, *arguments: Any, stream_id: int = 0, transaction: int | None = None
    ) -> bytes:
        """A command; `arguments` begin with the command object, or None."""
        if transaction is None:
            self._transaction += 1
            transaction = self._transaction
        return self.message(COMMAND, amf(name, transaction, *arguments), stream_id=stream_id)

    def connect(self, app: str = "live", **options: Any) -> bytes:
        known: dict[str, Any] = {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}", "flashVer": "test"}
        return self.command("connect", {**known, **options})

    def create_stream(self) -> bytes:
        return self.command("createStream", None)

    def publish(self, key: str, kind: str = "live") -> bytes:
        return self.command("publish", None, key, kind, stream_id=self.stream_id)

    def begin(self, key: str = "key", app: str = "live") -> bytes:
        """All from the first byte to `publish`."""
        return self.hello() + self.connect(app) + self.create_stream() + self.publish(key)

    def set_chunk_size(self, size: int) -> bytes:
        self.chunk_size = size
        return control(1, size)

    def video(self, data: bytes, time: int, *, kind: int = 0, chunk_id: int = 6) -> bytes:
        return self.message(VIDEO, data, time=time, stream_id=self.stream_id, chunk_id=chunk_id, kind=kind)

    def audio(self, data: bytes, time: int, *, kind: int = 0, chunk_id: int = 4) -> bytes:
        return self.message(AUDIO, data, time=time, stream_id=self.stream_id, chunk_id=chunk_id, kind=kind)

    def metadata(self, values: Mapping[str, Any]) -> bytes:
        payload = amf("@setDataFrame", "onMetaData", dict(values))
        return self.message(DATA, payload, stream_id=self.stream_id, chunk_id=5)

    def unpublish(self, key: str = "key") -> bytes:
        """FCUnpublish and deleteStream, as publishers end."""
        return self.command("FCUnpublish", None, key) + self.command("deleteStream", None, self.stream_id)


@dataclass(frozen=True)
class Answer:
    """A message of the server's. `values`: of a command, in AMF 0."""

    type_id: int
    stream_id: int
    payload: bytes

    @property
    def values(self) -> list[Any]:
        return parse_amf(self.payload) if self.type_id == COMMAND else []

    @property
    def number(self) -> int:
        return int.from_bytes(self.payload[:4], "big")


def answers(sent: bytes, *, handshake: bool = True) -> list[Answer]:
    """The messages of a server that begins each with a chunk of type 0 and does not mix their chunks."""
    at, size, found = (1 + 2 * HANDSHAKE if handshake else 0), 128 if handshake else 4096, []
    while at < len(sent):
        head = sent[at : at + 12]
        assert head[0] >> 6 == 0 and head[1:4] == bytes(3), "chunks of type 0 at time 0"
        left, payload = int.from_bytes(head[4:7], "big"), b""
        at += 12
        while left:
            taken = sent[at : at + min(left, size)]
            payload, left, at = payload + taken, left - len(taken), at + len(taken)
            if left:
                assert sent[at] == 0xC0 | head[0]
                at += 1
        answer = Answer(head[7], int.from_bytes(head[8:12], "little"), payload)
        size = answer.number if answer.type_id == 1 else size
        found.append(answer)
    return found


def codes(found: Sequence[Answer]) -> list[str]:
    """The `code` of each answer that has one, else the command's name."""
    named = [answer.values for answer in found if answer.values]
    return [_code(values) for values in named]


def _code(values: list[Any]) -> str:
    last = values[-1]
    return str(last["code"]) if isinstance(last, dict) and "code" in last else str(values[0])


def parse_amf(data: bytes) -> list[Any]:
    """AMF 0 as a server writes it."""
    values, at = [], 0
    while at < len(data):
        value, at = _parsed(data, at)
        values.append(value)
    return values


def _parsed(data: bytes, at: int) -> tuple[Any, int]:
    marker, at = data[at], at + 1
    match marker:
        case 0:
            return struct.unpack(">d", data[at : at + 8])[0], at + 8
        case 1:
            return data[at] != 0, at + 1
        case 2:
            return _parsed_name(data, at)
        case 3:
            return _parsed_object(data, at)
        case 5:
            return None, at
        case 10:
            count, at = int.from_bytes(data[at : at + 4], "big"), at + 4
            items = []
            for _ in range(count):
                item, at = _parsed(data, at)
                items.append(item)
            return items, at
    raise AssertionError(f"AMF of type {marker}")


def _parsed_name(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end].decode(), end


def _parsed_object(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while data[at : at + 3] != b"\0\0\x09":
        name, at = _parsed_name(data, at)
        found[name], at = _parsed(data, at)
    return found, at + 3
