from __future__ import annotations

import itertools

import pytest

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.chunks import ChunkReader, Message, encode
from monolith.protocols.rtmp.limits import Limits
from tests.peers.rtmp_publisher import RtmpPublisher, basic_header, chunk_header

LIMITS = Limits(max_held_size=5000, max_chunk_streams=3)
HOURS = 0x01020304
"""4.69 hours; from 4.66 on times are extended."""


def reader(limits: Limits = LIMITS) -> ChunkReader:
    return ChunkReader(limits, lambda _: 4000)


def read(*parts: bytes) -> list[Message]:
    return list(reader().receive(b"".join(parts)))


def times(*parts: bytes) -> list[int]:
    return [message.timestamp for message in read(*parts)]


def refused(*parts: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        read(*parts)
    return str(caught.value)


def head(kind: int, time: int = 0, size: int = 1, chunk_id: int = 6) -> bytes:
    return chunk_header(kind, chunk_id, time=time, size=size, type_id=9, stream_id=1)


def test_a_message_of_one_chunk() -> None:
    assert read(head(0, 7), b"x") == [Message(9, 1, 7, b"x")]


def test_an_empty_message() -> None:
    assert read(head(0, 7, size=0), head(3)) == [Message(9, 1, 7, b""), Message(9, 1, 14, b"")]


@pytest.mark.parametrize("size", [127, 128, 129, 255, 256, 257, 1000, 3999])
@pytest.mark.parametrize("chunk_id", [2, 63, 64, 319, 320, 65599])
def test_messages_of_many_chunks_and_ids_of_every_length(size: int, chunk_id: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    data = RtmpPublisher().message(9, payload, chunk_id=chunk_id, stream_id=5, time=1)
    assert read(data, data) == [Message(9, 5, 1, payload)] * 2


def test_a_short_id_in_a_long_form_is_the_same_chunk_stream() -> None:
    long_form = b"\x01\x00\x00"  # 64 in three bytes
    assert times(head(0, 5, chunk_id=64), b"a", b"\xc1\x00\x00", b"b") == [5, 10]
    assert long_form != basic_header(0, 64)


def test_every_type_of_header_refers_to_the_one_before() -> None:
    found = read(head(0, 100), b"a", head(1, 10, 2), b"bb", head(2, 20), b"cc", head(3), b"dd")
    assert found == [
        Message(9, 1, 100, b"a"),
        Message(9, 1, 110, b"bb"),
        Message(9, 1, 130, b"cc"),
        Message(9, 1, 150, b"dd"),
    ]


def test_a_type_3_after_a_type_0_adds_its_timestamp() -> None:
    assert times(head(0, 40), b"a", head(3), b"b", head(3), b"c") == [40, 80, 120]


def test_chunk_streams_keep_their_own_headers() -> None:
    other = head(0, 500, chunk_id=4)
    assert times(head(0, 10), b"a", other, b"b", head(2, 1), b"c", head(3, chunk_id=4), b"d") == [
        10,
        500,
        11,
        1000,
    ]


def test_chunks_of_two_messages_take_turns() -> None:
    first, second = b"a" * 300, b"b" * 300
    found = read(
        head(0, size=300), first[:128], head(0, size=300, chunk_id=7), second[:128],
        head(3), first[128:256], head(3, chunk_id=7), second[128:256],
        head(3, chunk_id=7), second[256:], head(3), first[256:],
    )  # fmt: skip
    assert [message.payload for message in found] == [second, first]


def test_an_extended_timestamp_is_repeated_in_the_chunks_of_its_message() -> None:
    payload = bytes(300)
    data = RtmpPublisher().message(9, payload, time=HOURS, stream_id=1)
    assert data.count(HOURS.to_bytes(4, "big")) == 3
    assert read(data) == [Message(9, 1, HOURS, payload)]


def test_an_extended_timestamp_that_is_not_repeated() -> None:
    payload = b"p" * 300
    data = head(0, HOURS, 300) + payload[:128] + b"\xc6" + payload[128:256] + b"\xc6" + payload[256:]
    assert read(data) == [Message(9, 1, HOURS, payload)]


def test_a_type_3_that_begins_a_message_brings_its_own_extended_delta() -> None:
    assert times(head(0, HOURS), b"a", head(3, HOURS + 5), b"b") == [HOURS, 2 * HOURS + 5]


def test_deltas_go_on_after_hours() -> None:
    assert times(head(0, HOURS), b"a", head(1, 40), b"b", head(3), b"c") == [HOURS, HOURS + 40, HOURS + 80]


def test_the_largest_time_without_an_extended_timestamp() -> None:
    assert times(head(0, 0xFFFFFE), b"a", head(0, 0xFFFFFF), b"b") == [0xFFFFFE, 0xFFFFFF]


def test_times_overflow_at_32_bits() -> None:
    assert times(head(0, 0xFFFFFFF0), b"a", head(2, 0x20), b"b") == [0xFFFFFFF0, 0x10]


def test_a_new_chunk_stream_may_begin_with_type_1_as_librtmp_does() -> None:
    assert read(head(1, 30), b"a") == [Message(9, 0, 30, b"a")]


@pytest.mark.parametrize("kind", [2, 3])
def test_no_chunk_stream_begins_without_a_length(kind: int) -> None:
    assert (
        refused(head(kind), b"a")
        == f"chunk stream 6 begins with a chunk of type {kind}, and must with type 0"
    )


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_no_message_begins_within_another(kind: int) -> None:
    assert refused(head(0, size=300), bytes(128), head(kind)) == (
        "a message began on chunk stream 6 after 128 of 300 bytes of the one before; only a chunk of type 3 may follow"
        " there"
    )


def test_chunk_streams_are_bounded() -> None:
    parts = [head(0, chunk_id=chunk_id) + b"a" for chunk_id in (3, 4, 5, 6)]
    assert len(read(*parts[:3])) == 3
    assert refused(*parts) == "more than 3 chunk streams"


def test_messages_are_bounded_before_they_come() -> None:
    assert refused(head(0, size=4001)) == "a message of type 9 with 4001 bytes; at most 4000 are allowed here"


def test_unfinished_messages_are_bounded_together() -> None:
    part = [head(0, size=4000, chunk_id=chunk_id) for chunk_id in (6, 7)]
    begun = [start + bytes(128) for start in part]
    more = [bytes([0xC0 | chunk_id]) + bytes(128) for chunk_id in (6, 7)]
    assert refused(*begun, *(more * 20)) == "more than 5000 bytes of unfinished messages"


def test_what_is_held_is_counted() -> None:
    chunks = reader()
    assert list(chunks.receive(head(0, size=300) + bytes(128))) == []
    assert chunks.held == 128
    assert len(list(chunks.receive(b"\xc6" + bytes(128) + b"\xc6" + bytes(44)))) == 1
    assert chunks.held == 0


def test_an_aborted_message_is_forgotten() -> None:
    chunks = reader()
    assert list(chunks.receive(head(0, 5, size=300) + bytes(128))) == []
    chunks.abort(6)
    assert chunks.held == 0
    assert list(chunks.receive(head(3) + bytes(128))) == []
    assert chunks.held == 128


def test_nothing_is_aborted_where_nothing_is_unfinished() -> None:
    chunks = reader()
    (message,) = chunks.receive(head(0) + b"a")
    chunks.abort(6)
    chunks.abort(999)
    assert (message.payload, chunks.held) == (b"a", 0)


def test_another_chunk_size_holds_at_once() -> None:
    chunks = reader()
    found = []
    for message in chunks.receive(head(0) + b"a" + head(0, size=200) + bytes(200) + head(3)):
        chunks.chunk_size = 200
        found.append(len(message.payload))
    assert found == [1, 200]


def test_it_may_be_cut_anywhere() -> None:
    publisher = RtmpPublisher()
    data = b"".join(
        publisher.message(9, bytes([chunk_id % 251]) * 700, chunk_id=chunk_id, time=time, stream_id=1)
        for chunk_id, time in [(6, 5), (64, HOURS), (400, 9), (6, HOURS)]
    )
    whole = read(data)
    for size in (1, 2, 3, 5, 17, 127, 129, 1000):
        chunks = reader()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert list(itertools.chain.from_iterable(map(chunks.receive, pieces))) == whole


@pytest.mark.parametrize("size", [0, 1, 128, 129, 256, 700])
def test_what_is_written_is_read(size: int) -> None:
    message = Message(20, 3, 77, bytes(range(256)) * 3)
    message = Message(message.type_id, message.stream_id, message.timestamp, message.payload[:size])
    assert read(encode(message, 3, 128)) == [message]
