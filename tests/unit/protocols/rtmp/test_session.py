"""Whole sessions: messages of every type, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.protocols.rtmp.events import (
    AudioMessage,
    ConnectRequested,
    HandshakeDone,
    Metadata,
    PublishEnded,
    PublishRequested,
    VideoMessage,
)
from monolith.protocols.rtmp.limits import Limits
from monolith.protocols.rtmp.session import ServerSession, SessionError
from tests.peers.rtmp_publisher import RtmpPublisher, amf, answers, chunk_header, control, user_control
from tests.unit.protocols.rtmp.recordings import (
    FRAME,
    KEYFRAME,
    SMALL,
    everything,
    receive,
    refusal,
    session_of,
    told,
    usual,
)

PUBLISHER = RtmpPublisher()
USUAL = usual()
HOURS = 0x1000000


def after(data: bytes, limits: Limits = SMALL) -> list[object]:
    session, _ = session_of(RtmpPublisher().begin(), limits)
    return list(receive(session, data))


def test_a_usual_session() -> None:
    events, reason = told([USUAL])
    assert reason == ""
    assert isinstance(events[0], HandshakeDone)
    video = [event for event in events if isinstance(event, VideoMessage)]
    assert [event.timestamp_ms for event in video] == [0, 40, 80, 113, 146, 146 + HOURS]
    assert [event.data for event in video[1:]] == [KEYFRAME, FRAME, FRAME, FRAME, KEYFRAME]
    audio = [event for event in events if isinstance(event, AudioMessage)]
    assert [(event.timestamp_ms, event.data) for event in audio] == [
        (0, b"\xaf\x00sound"),
        (23, b"\xaf\x01sound"),
    ]
    assert [event.values for event in events if isinstance(event, Metadata)] == [
        {"width": 640.0, "nested": {"list": [1.0, "two", None, True]}}
    ]
    assert events[-1] == PublishEnded(stream_id=1, by="FCUnpublish")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 127, 128, 129, 1500, 4096])
def test_it_may_be_cut_into_pieces_of_any_size(size: int) -> None:
    assert told(USUAL[at : at + size] for at in range(0, len(USUAL), size)) == told([USUAL])


@given(st.lists(st.integers(0, len(USUAL)), max_size=30).map(sorted))
@settings(deadline=None)
def test_it_may_be_cut_anywhere(cuts: list[int]) -> None:
    ends = [*cuts, len(USUAL)]
    assert told(USUAL[start:end] for start, end in zip([0, *cuts], ends, strict=True)) == told([USUAL])


def test_bytes_may_be_a_view() -> None:
    view = memoryview(RtmpPublisher().begin())
    assert [type(event) for event in ServerSession(SMALL).receive(view)] == [
        HandshakeDone, ConnectRequested, PublishRequested,
    ]  # fmt: skip


def test_an_error_carries_what_came_before_it_and_comes_once() -> None:
    session, _ = session_of(RtmpPublisher().begin())
    with pytest.raises(SessionError, match="chunk stream 63 begins") as caught:
        session.receive(PUBLISHER.video(b"x", 5) + b"\xff")
    assert caught.value.events == (VideoMessage(stream_id=1, timestamp_ms=5, data=b"x"),)
    assert session.receive(PUBLISHER.video(b"x", 5)) == []


def test_timestamps_run_on_when_32_bits_overflow() -> None:
    data = PUBLISHER.video(b"x", 0xFFFFFFF0) + PUBLISHER.audio(b"y", 0xFFFFFFF8) + PUBLISHER.video(b"x", 0x10)
    times = [event.timestamp_ms for event in after(data) if isinstance(event, VideoMessage | AudioMessage)]
    assert times == [0xFFFFFFF0, 0xFFFFFFF8, 0x100000010]


def test_pictures_of_five_hours() -> None:
    parts = [PUBLISHER.video(bytes(300), 0)]
    parts += [PUBLISHER.video(bytes(300), 600_000, kind=1) for _ in range(30)]
    parts += [PUBLISHER.video(bytes(300), 18_600_000, kind=0)]
    times = [event.timestamp_ms for event in after(b"".join(parts)) if isinstance(event, VideoMessage)]
    assert times == [number * 600_000 for number in range(32)]


def test_empty_media_are_nothing() -> None:
    assert after(PUBLISHER.video(b"", 0) + PUBLISHER.audio(b"", 0)) == []


def test_an_aggregate_is_what_it_holds() -> None:
    tags = b"\x08\0\0\x01\0\0\x05\0\0\0\0s\0\0\0\x0c" + b"\x09\0\0\x01\0\0\x0f\0\0\0\0p\0\0\0\x0c"
    assert after(PUBLISHER.message(22, tags, time=100, stream_id=1)) == [
        AudioMessage(stream_id=1, timestamp_ms=100, data=b"s"),
        VideoMessage(stream_id=1, timestamp_ms=110, data=b"p"),
    ]


def test_messages_that_mean_nothing_here_are_passed_over() -> None:
    unknown = [PUBLISHER.message(type_id, b"something") for type_id in (3, 6, 7, 16, 19, 99)]
    assert after(b"".join(unknown) + user_control(3, bytes(8)) + user_control(31, b"")) == []


def test_a_ping_is_answered() -> None:
    session, _ = session_of(RtmpPublisher().begin())
    session.data_to_send()
    session.receive(user_control(6, b"time") + user_control(6, b"longer"))
    payloads = [answer.payload for answer in answers(session.data_to_send(), handshake=False)]
    assert payloads == [b"\0\x07time", b"\0\x07long"]


def test_commands_and_data_of_type_amf_3() -> None:
    wrapped = b"\0" + amf("publish", 3, None, "key", "live")
    data = PUBLISHER.hello() + PUBLISHER.connect() + PUBLISHER.create_stream()
    _, events = session_of(data + PUBLISHER.message(17, wrapped, stream_id=1))
    assert isinstance(events[-1], PublishRequested)
    metadata = amf("onMetaData", {"a": 1})
    expected = [Metadata(stream_id=1, values={"a": 1.0})]
    assert after(PUBLISHER.message(15, b"\0" + metadata, stream_id=1)) == expected
    assert after(PUBLISHER.message(15, metadata, stream_id=1)) == expected


@pytest.mark.parametrize(
    "payload",
    [
        amf("onTextData", {"text": "x"}),
        amf("@setDataFrame"),
        amf("@setDataFrame", "onMetaData"),
        amf("onMetaData", 5),
        amf(5),
        amf("onCuePoint") + b"\xff not read",
    ],
)
def test_data_that_are_no_metadata_are_passed_over(payload: bytes) -> None:
    assert after(PUBLISHER.message(18, payload, stream_id=1)) == []


def test_metadata_count_where_something_is_published() -> None:
    elsewhere = PUBLISHER.message(18, amf("onMetaData", {"a": 1}), stream_id=5)
    assert after(elsewhere) == []
    assert after(PUBLISHER.command("closeStream", None, stream_id=1) + PUBLISHER.metadata({"a": 1}))[1:] == []


@pytest.mark.parametrize("size", [64, 4096, 0xFFFFFF, 0x1000000, 0x7FFFFFFF])
def test_chunk_sizes(size: int) -> None:
    publisher = RtmpPublisher()
    assert len(after(publisher.set_chunk_size(size) + publisher.video(bytes(1000), 0))) == 1


@pytest.mark.parametrize("size", [0, 63, 0x80000000, 0x80000080])
def test_chunk_sizes_have_limits(size: int) -> None:
    assert refusal(control(1, size)) == f"a chunk size of {size} bytes; there must be 64 to 2147483647"


def test_an_aborted_message_never_comes() -> None:
    begun = PUBLISHER.video(bytes(500), 0)[:200]
    first = begun[: 12 + 128]
    assert after(first + control(2, 6) + PUBLISHER.video(b"whole", 9)) == [
        VideoMessage(stream_id=1, timestamp_ms=9, data=b"whole")
    ]


def test_media_before_a_publish_are_no_larger_than_commands() -> None:
    data = PUBLISHER.hello() + PUBLISHER.connect() + PUBLISHER.create_stream()
    _, reason = told([data + PUBLISHER.video(bytes(1025), 0)])
    assert reason == "a message of type 9 with 1025 bytes; at most 1024 are allowed here"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            PUBLISHER.video(bytes(4097), 0),
            "a message of type 9 with 4097 bytes; at most 4096 are allowed here",
        ),
        (
            PUBLISHER.message(20, bytes(1025)),
            "a message of type 20 with 1025 bytes; at most 1024 are allowed here",
        ),
        (control(5, 0), "an acknowledgement window of 0 bytes"),
        (PUBLISHER.message(1, b"\0\0"), "a control message of type 1 with 2 of 4 bytes"),
        (PUBLISHER.message(20, amf("x")), "AMF data ends in the middle of a value"),
        (PUBLISHER.message(18, b"\x0d", stream_id=1), "AMF 0 value of type 0x0d is not supported"),
    ],
)
def test_what_is_wrong_is_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_the_default_limits_allow_large_pictures() -> None:
    publisher = RtmpPublisher()
    session, _ = session_of(publisher.begin(), Limits())
    data = publisher.set_chunk_size(65536) + publisher.video(bytes(8 << 20), 0)
    assert isinstance(session.receive(data)[-1], VideoMessage)


def test_answers_that_nobody_fetches_are_bounded() -> None:
    reason = refusal(user_control(6, b"ping") * 1000)
    assert reason == "requests whose answers fill 8199 bytes at a time"


def test_every_window_is_acknowledged() -> None:
    session, _ = session_of(RtmpPublisher().begin() + control(5, 1000))
    received = len(RtmpPublisher().begin()) + 16
    session.data_to_send()
    acknowledged = []
    for _ in range(20):
        data = PUBLISHER.video(bytes(100), 0)
        session.receive(data)
        received += len(data)
        found = answers(session.data_to_send(), handshake=False)
        acknowledged += [(answer.type_id, answer.number) for answer in found]
        assert received - acknowledged[-1][1] < 1000 if acknowledged else received < 5000
    assert {kind for kind, _ in acknowledged} == {3}
    assert acknowledged[-1][1] <= received
    assert len(acknowledged) >= 2


def test_nothing_is_acknowledged_within_the_handshake() -> None:
    session = ServerSession(Limits(window_size=100))
    session.receive(PUBLISHER.hello()[:2000])
    assert len(session.data_to_send()) == 3073


ONE_BYTE_MESSAGES = chunk_header(0, 5, size=0, type_id=99) + chunk_header(3, 5) * 9999
SOUNDS = PUBLISHER.audio(b"s", 0) + (chunk_header(3, 4) + b"s") * 4999


def test_many_messages_are_gone_through_a_part_at_a_time() -> None:
    limits = Limits(max_at_once=100)
    session, _ = session_of(RtmpPublisher().begin(), limits)
    counts = [len(session.receive(SOUNDS))]
    while session.more:
        counts.append(len(session.receive(b"")))
    assert (max(counts), sum(counts)) == (100, 5000)
    assert [type(event) for event in session.receive(PUBLISHER.audio(b"s", 5))] == [AudioMessage]


def test_what_comes_while_messages_wait_is_behind_them() -> None:
    session, _ = session_of(RtmpPublisher().begin(), Limits(max_at_once=2))
    pictures = [PUBLISHER.video(b"x", number) for number in range(7)]
    events = session.receive(b"".join(pictures[:5]))
    for picture in pictures[5:]:
        assert session.more
        events += session.receive(picture)
    events += everything(session, b"")
    assert [event.timestamp_ms for event in events if isinstance(event, VideoMessage)] == list(range(7))


def test_the_parts_of_an_aggregate_are_messages() -> None:
    tag = b"\x08\0\0\x01" + bytes(7) + b"s" + bytes(4)
    session, _ = session_of(RtmpPublisher().begin(), Limits(max_at_once=10))
    aggregate = PUBLISHER.message(22, tag * 50, stream_id=1)
    assert len(session.receive(aggregate * 2)) == 50
    assert session.more
    assert refusal(PUBLISHER.message(22, tag * 1025, stream_id=1), Limits()) == (
        "an aggregate message of more than 1024 tags"
    )


def test_commands_are_more_work_by_their_size() -> None:
    limits = Limits(max_at_once=10)
    session, _ = session_of(RtmpPublisher().begin(), limits)
    long = PUBLISHER.message(
        18, amf("onMetaData", {str(number): None for number in range(1000)}), stream_id=1
    )
    assert len(session.receive(long * 2)) == 1
    assert session.more and len(session.receive(b"")) == 1


@pytest.mark.parametrize("begun", [RtmpPublisher().hello(), RtmpPublisher().begin()])
def test_little_may_come_before_a_publish_is_accepted(begun: bytes) -> None:
    """A message may be one byte, and makes as much work as a large one."""
    session = ServerSession()
    everything(session, begun)
    session.data_to_send()
    pongs = 0
    with pytest.raises(SessionError, match="more than 1024 messages before a publish was accepted"):
        for _ in range(2000):
            session.receive(user_control(6, b"time"))
            pongs += len(session.data_to_send()) // 18
    assert 900 < pongs <= 1024
    with pytest.raises(SessionError, match="more than 1024 messages before a publish was accepted"):
        everything(ServerSession(), begun + ONE_BYTE_MESSAGES)


def test_few_bytes_may_come_before_a_publish_is_accepted() -> None:
    """Unfinished messages, too."""
    session = ServerSession()
    session.receive(RtmpPublisher().hello() + RtmpPublisher().connect())
    held = []
    with pytest.raises(SessionError, match="more than 524288 bytes before a publish was accepted"):
        for chunk_id in itertools.count(4):
            session.receive(chunk_header(0, chunk_id, size=60_000, type_id=20) + bytes(128))
            for _ in range(400):
                session.receive(chunk_header(3, chunk_id) + bytes(128))
                held.append(session.held)
    assert 400_000 < max(held) <= 524_288


def test_pictures_may_come_with_the_request() -> None:
    session = ServerSession()
    events = session.receive(RtmpPublisher().begin() + PUBLISHER.video(bytes(256 << 10), 0))
    assert isinstance(events[-1], VideoMessage)


def test_an_accepted_publisher_may_send_as_much_as_it_will() -> None:
    session, _ = session_of(RtmpPublisher().begin(), Limits())
    assert len(everything(session, SOUNDS)) == 5000
    assert len(everything(session, PUBLISHER.video(bytes(600_000), 0))) == 1


def test_messages_are_counted_by_their_work() -> None:
    session, _ = session_of(RtmpPublisher().begin(), Limits())
    before = session.messages
    everything(session, SOUNDS + PUBLISHER.video(bytes(5000), 0))
    assert session.messages - before == 5001
    everything(session, PUBLISHER.message(18, bytes(640), stream_id=1))
    assert session.messages - before == 5001 + 11
