from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.protocols.errors import ProtocolError, UnsupportedError
from monolith.protocols.rtmp.amf0 import Reader, Value, encode

NAMES = st.text(max_size=8).filter(bool)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def read(data: bytes) -> list[Value]:
    return Reader(data, max_string_length=100, max_depth=4).rest()


@given(st.lists(VALUES, max_size=4))
def test_what_is_written_is_read(values: list[Value]) -> None:
    assert Reader(encode(*values)).rest() == values


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x06", None),
        (b"\x08\0\0\0\x07\0\x01a\x01\x01\0\0\x09", {"a": True}),
        (b"\x0b" + struct.pack(">d", 1000) + b"\0\0", 1000.0),
        (b"\x0c\0\0\0\x02hi", "hi"),
        (b"\x0f\0\0\0\x03<a>", "<a>"),
        (b"\x10\0\x01X\0\x01a\x05\0\0\x09", {"a": None}),
        (b"\x03\0\0\x05\0\0\x09", {"": None}),
        (b"\x02\0\x01\xff", "\ufffd"),
    ],
)
def test_what_others_write(data: bytes, value: Value) -> None:
    assert read(data) == [value]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x01", "AMF data ends in the middle of a value"),
        (b"\x02\0\x05abc", "AMF data ends in the middle of a value"),
        (b"\x03\0\x01a\x05", "AMF data ends in the middle of a value"),
        (b"\x02\0\x65" + bytes(101), "AMF string of 101 bytes, longer than 100"),
        (b"\x0c\xff\xff\xff\xff", "AMF string of 4294967295 bytes, longer than 100"),
        (b"\x0a\xff\xff\xff\xff\x05", "AMF array of 4294967295 values in 1 bytes"),
        (b"\x0a\0\0\0\x01" * 5 + b"\x05", "AMF values nested deeper than 4 levels"),
    ],
)
def test_what_is_wrong_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        read(data)


@pytest.mark.parametrize("marker", [0x04, 0x07, 0x09, 0x0D, 0x0E, 0x11, 0xFF])
def test_types_that_are_not_supported(marker: int) -> None:
    with pytest.raises(UnsupportedError, match=f"AMF 0 value of type 0x{marker:02x} is not supported"):
        read(bytes([marker]))


def test_values_are_read_one_by_one() -> None:
    reader = Reader(encode("name", 1))
    assert (reader.value(), reader.more, reader.value(), reader.more) == ("name", True, 1.0, False)
