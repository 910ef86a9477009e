"""Whatever comes instead of RTMP, or in the middle of it: a ProtocolError at most, and never more memory than allowed.

What a session makes of bytes does not depend on how they were cut, right or wrong.
"""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.protocols import flv
from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.amf0 import Reader
from monolith.protocols.rtmp.limits import Limits
from monolith.protocols.rtmp.session import ServerSession, SessionError
from tests.peers.rtmp_publisher import RtmpPublisher, chunk_header
from tests.unit.protocols.rtmp.recordings import SMALL, told, usual

USUAL = usual()
BEGUN = RtmpPublisher().begin()
EXAMPLES = 300

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(("set", "insert", "remove", "repeat")),
        st.integers(3073, len(USUAL) - 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)

CHUNKS = st.builds(
    lambda kind, chunk_id, time, size, type_id, stream_id, payload: (
        chunk_header(kind, chunk_id, time=time, size=size, type_id=type_id, stream_id=stream_id) + payload
    ),
    st.integers(0, 3),
    st.sampled_from((2, 3, 6, 63, 64, 319, 320, 65599)),
    st.sampled_from((0, 40, 0xFFFFFE, 0xFFFFFF, 0xFFFFFFFF)),
    st.sampled_from((0, 1, 4, 6, 127, 128, 129, 300, 1025, 4096, 0xFFFFFF)),
    st.sampled_from((1, 2, 3, 4, 5, 6, 8, 9, 15, 17, 18, 20, 22, 200)),
    st.sampled_from((0, 1, 2, 0xFFFFFFFF)),
    st.binary(max_size=20) | st.integers(0, 300).map(bytes),
)

SIZES = st.sampled_from((1, 2, 5, 13, 128, 1000))


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for change, at, piece in changes:
        behind = {"set": at + len(piece), "insert": at, "remove": at + len(piece), "repeat": at}[change]
        between = {"set": piece, "insert": piece, "remove": b"", "repeat": data[at : at + 40]}[change]
        data = data[:at] + between + data[behind:]
    return data


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.binary(max_size=4000), SIZES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything_instead_of_rtmp(data: bytes, size: int) -> None:
    assert told(cut(data, size)) == told([data])


@given(st.binary(max_size=1000), SIZES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything_instead_of_media(data: bytes, size: int) -> None:
    assert told([BEGUN, *cut(data, size)]) == told([BEGUN + data])


@given(MUTATIONS, SIZES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_damaged_sessions(changes: list[tuple[str, int, bytes]], size: int) -> None:
    damaged = mutated(USUAL, changes)
    assert told([damaged[:3073], *cut(damaged[3073:], size)]) == told([damaged])


@given(st.lists(CHUNKS, max_size=30), SIZES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_chunks_in_any_order(chunks: list[bytes], size: int) -> None:
    data = b"".join(chunks)
    assert told([BEGUN, *cut(data, size)]) == told([BEGUN + data])


@given(st.binary(max_size=300))
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything_instead_of_amf(data: bytes) -> None:
    try:
        Reader(data).rest()
    except ProtocolError as error:
        assert str(error)


@given(st.binary(max_size=60), st.integers(-(2**40), 2**40))
@settings(max_examples=EXAMPLES * 2, deadline=None)
def test_anything_instead_of_a_video_tag(data: bytes, time: int) -> None:
    try:
        found = flv.parse_video(data, time)
    except ProtocolError as error:
        assert str(error)
    else:
        assert not isinstance(found, flv.VideoFrame) or (found.data and found.data in data)


def test_sizes_that_are_only_declared_take_no_memory() -> None:
    """Every chunk stream begins a message of the greatest size, and none goes on."""
    limits = Limits()
    session = ServerSession(limits)
    session.receive(RtmpPublisher().begin())
    heads = [
        chunk_header(0, 3 + number, size=limits.max_message_size, type_id=9, stream_id=1)
        for number in range(limits.max_chunk_streams - 2)
    ]
    tracemalloc.start()
    try:
        for head in heads:
            session.receive(head + bytes(128))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert session.held == 128 * len(heads)
    assert grown < 200_000


def test_unfinished_messages_grow_no_further_than_allowed() -> None:
    """They all go on in turns until the session ends."""
    session = ServerSession(SMALL)
    session.receive(BEGUN)
    starts = [chunk_header(0, 10 + number, size=4096, type_id=9, stream_id=1) for number in range(10)]
    reasons = []
    for part in [*starts, *(chunk_header(3, 10 + number % 10) for number in range(400))]:
        try:
            session.receive(part + bytes(128))
        except SessionError as error:
            reasons.append(str(error))
        assert session.held <= SMALL.max_held_size + 128
    assert reasons == ["more than 6000 bytes of unfinished messages"]
