"""AMF 0, the format of RTMP's commands (Adobe, "Action Message Format AMF 0", 2007).

Values are None (null and undefined), bool, float (numbers, and dates as milliseconds since 1970), str, dict (objects
and ECMA arrays) and list (strict arrays).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from monolith.protocols.errors import ProtocolError, UnsupportedError

Value: TypeAlias = "bool | float | str | dict[str, Value] | list[Value] | None"

NUMBER: Final = 0x00
BOOLEAN: Final = 0x01
STRING: Final = 0x02
OBJECT: Final = 0x03
NULL: Final = 0x05
UNDEFINED: Final = 0x06
ECMA_ARRAY: Final = 0x08
OBJECT_END: Final = 0x09
STRICT_ARRAY: Final = 0x0A
DATE: Final = 0x0B
LONG_STRING: Final = 0x0C
XML: Final = 0x0F
TYPED_OBJECT: Final = 0x10

_NUMBER: Final = struct.Struct(">d")


class Reader:
    """Reads values one after another. Every method raises ProtocolError for what is no AMF 0, ends too soon, or is
    longer or deeper than allowed."""

    def __init__(self, data: bytes, *, max_string_length: int = 8192, max_depth: int = 16) -> None:
        self._data = data
        self._at = 0
        self._max_string = max_string_length
        self._max_depth = max_depth

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def rest(self) -> list[Value]:
        """All values that are left."""
        values: list[Value] = []
        while self.more:
            values.append(self.value())
        return values

    def value(self) -> Value:
        return self._value(self._max_depth)

    def _value(self, depth: int) -> Value:
        if depth == 0:
            raise ProtocolError(f"AMF values nested deeper than {self._max_depth} levels")
        marker = self._take(1)[0]
        if marker in _CONTAINERS:
            return self._container(marker, depth - 1)
        return self._scalar(marker)

    def _scalar(self, marker: int) -> Value:
        if marker == NUMBER:
            return self._number()
        if marker == BOOLEAN:
            return self._take(1) != b"\0"
        if marker == STRING:
            return self._string(2)
        if marker in (NULL, UNDEFINED):
            return None
        if marker == DATE:
            number = self._number()
            self._take(2)  # a time zone, reserved
            return number
        if marker in (LONG_STRING, XML):
            return self._string(4)
        raise UnsupportedError(f"AMF 0 value of type 0x{marker:02x} is not supported")

    def _container(self, marker: int, depth: int) -> Value:
        if marker == STRICT_ARRAY:
            return self._array(depth)
        if marker == ECMA_ARRAY:
            self._take(4)  # a count that need not be right
        elif marker == TYPED_OBJECT:
            self._string(2)
        return self._object(depth)

    def _object(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while True:
            name = self._string(2)
            if not name and self._data[self._at : self._at + 1] == b"\x09":
                self._at += 1
                return found
            found[name] = self._value(depth)

    def _array(self, depth: int) -> list[Value]:
        count = int.from_bytes(self._take(4), "big")
        if count > len(self._data) - self._at:
            raise ProtocolError(f"AMF array of {count} values in {len(self._data) - self._at} bytes")
        return [self._value(depth) for _ in range(count)]

    def _number(self) -> float:
        (number,) = _NUMBER.unpack(self._take(8))
        assert isinstance(number, float)
        return number

    def _string(self, size: int) -> str:
        length = int.from_bytes(self._take(size), "big")
        if length > self._max_string:
            raise ProtocolError(f"AMF string of {length} bytes, longer than {self._max_string}")
        return self._take(length).decode("utf-8", "replace")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ProtocolError("AMF data ends in the middle of a value")
        self._at += count
        return taken


_CONTAINERS: Final = frozenset({OBJECT, ECMA_ARRAY, STRICT_ARRAY, TYPED_OBJECT})

Encodable: TypeAlias = "bool | float | str | Mapping[str, Encodable] | Sequence[Encodable] | None"


def encode(*values: Encodable) -> bytes:
    """Values one after another; strings, and names in objects, of at most 65,535 bytes."""
    return b"".join(map(_encode, values))


def _encode(value: Encodable) -> bytes:
    if value is None:
        return bytes([NULL])
    if isinstance(value, bool):
        return bytes([BOOLEAN, value])
    if isinstance(value, int | float):
        return bytes([NUMBER]) + _NUMBER.pack(value)
    if isinstance(value, str):
        return bytes([STRING]) + _text(value)
    if isinstance(value, Mapping):
        members = b"".join(_text(name) + _encode(item) for name, item in value.items())
        return bytes([OBJECT]) + members + bytes([0, 0, OBJECT_END])
    return bytes([STRICT_ARRAY]) + len(value).to_bytes(4, "big") + encode(*value)


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data
