from __future__ import annotations

import pytest

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.chunks import Message
from monolith.protocols.rtmp.messages import Output, number, parts_of_aggregate
from tests.peers.rtmp_publisher import Answer, answers


def sent(output: Output) -> list[Answer]:
    return answers(output.take(), handshake=False)


def tag(type_id: int, time: int, body: bytes) -> bytes:
    stamp = (time & 0xFFFFFF).to_bytes(3, "big") + (time >> 24).to_bytes(1, "big")
    return bytes([type_id]) + len(body).to_bytes(3, "big") + stamp + bytes(3) + body + bytes(4)


def parts(payload: bytes, time: int = 1000) -> list[Message]:
    return list(parts_of_aggregate(Message(22, 1, time, payload), 3))


def test_control_messages() -> None:
    output = Output()
    output.window(1000)
    output.acknowledge(0x1_0000_0005)
    output.user_control(7, b"ping")
    assert sent(output) == [
        Answer(5, 0, bytes([0, 0, 3, 232])),
        Answer(6, 0, bytes([0, 0, 3, 232, 2])),
        Answer(3, 0, bytes([0, 0, 0, 5])),
        Answer(4, 0, b"\0\x07ping"),
    ]


def test_what_was_taken_is_gone() -> None:
    output = Output()
    output.raw(b"abc")
    assert (output.size, output.take(), output.take(), output.size) == (3, b"abc", b"", 0)


def test_long_commands_are_cut_into_chunks_of_the_size_that_was_told() -> None:
    output = Output()
    output.command(b"\x06" * 300, 3)
    output.set_chunk_size(200)
    output.command(b"\x06" * 300, 3)
    data = output.take()
    assert len(data) == 12 + 300 + 2 + 16 + 12 + 300 + 1
    assert [len(answer.payload) for answer in answers(b"\0" * 3073 + data)] == [300, 4, 300]


def test_the_number_of_a_control_message() -> None:
    assert number(Message(1, 0, 0, b"\0\0\1\0more")) == 256
    with pytest.raises(ProtocolError, match="a control message of type 1 with 3 of 4 bytes"):
        number(Message(1, 0, 0, b"\0\0\1"))


def test_times_in_an_aggregate_count_from_the_first() -> None:
    far = 0x01000000
    found = parts(tag(8, far, b"sound") + tag(9, far + 40, b"picture"))
    assert found == [Message(8, 1, 1000, b"sound"), Message(9, 1, 1040, b"picture")]


def test_aggregates_hold_no_aggregates() -> None:
    assert parts(tag(22, 0, tag(9, 0, b"x")) + tag(9, 0, b"y")) == [Message(9, 1, 1000, b"y")]


def test_an_aggregate_may_be_empty_and_end_without_its_last_pointer() -> None:
    assert parts(b"") == []
    assert len(parts(tag(9, 0, b"x")[:-4])) == 1


@pytest.mark.parametrize("size", [1, 10, 11, 15])
def test_an_aggregate_may_not_end_in_a_tag(size: int) -> None:
    with pytest.raises(ProtocolError, match="an aggregate message ends in the middle of a tag"):
        parts(tag(9, 0, b"picture")[:size])


def test_an_aggregate_may_have_so_many_tags() -> None:
    assert len(parts(tag(8, 0, b"s") * 3)) == 3
    with pytest.raises(ProtocolError, match="an aggregate message of more than 3 tags"):
        parts(tag(8, 0, b"") + tag(22, 0, b"") * 3)
