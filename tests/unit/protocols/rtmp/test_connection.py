"""Commands: what a publisher asks for, in order and out of it."""

from __future__ import annotations

from typing import Any

import pytest

from monolith.protocols.rtmp.events import (
    ConnectRequested,
    Event,
    PlayRefused,
    PublishEnded,
    PublishRequested,
    VideoMessage,
)
from monolith.protocols.rtmp.session import ServerSession
from tests.peers.rtmp_publisher import Answer, RtmpPublisher, answers, codes
from tests.unit.protocols.rtmp.recordings import SMALL, receive, refusal, session_of, told

PUBLISHER = RtmpPublisher()
CONNECTED = PUBLISHER.hello() + PUBLISHER.connect()


def begun() -> ServerSession:
    """A session that publishes on message stream 1; its answers are fetched."""
    session, _ = session_of(RtmpPublisher().begin())
    session.data_to_send()
    return session


def answered(session: ServerSession) -> list[Answer]:
    return answers(session.data_to_send(), handshake=False)


def after(data: bytes) -> tuple[list[Event], list[Answer]]:
    """Events and answers for `data` in a session that publishes."""
    session = begun()
    return receive(session, data), answered(session)


def video(time: int = 0, stream_id: int = 1) -> bytes:
    return PUBLISHER.message(9, b"x", time=time, stream_id=stream_id, chunk_id=6)


def test_connect_is_answered() -> None:
    session, events = session_of(PUBLISHER.hello() + PUBLISHER.connect("live", fourCcList=["hvc1"]))
    assert events[1] == ConnectRequested(
        app="live", tc_url="rtmp://127.0.0.1/live", flash_version="test", fourcc=("hvc1",)
    )
    found = answers(session.data_to_send())
    assert [answer.type_id for answer in found] == [5, 6, 1, 4, 20]
    name, _, properties, information = found[-1].values
    assert (name, information["code"]) == ("_result", "NetConnection.Connect.Success")
    assert "hvc1" in properties["fourCcList"]


def test_a_url_is_not_printed() -> None:
    _, events = session_of(PUBLISHER.hello() + PUBLISHER.connect(tcUrl="rtmp://user:password@host/live"))
    assert repr(events[1]) == "ConnectRequested(app='live', flash_version='test', fourcc=())"


def test_connect_may_say_less() -> None:
    _, events = session_of(PUBLISHER.hello() + PUBLISHER.command("connect", {"app": "/live/"}))
    assert events[1] == ConnectRequested(app="live", tc_url="", flash_version="", fourcc=())


@pytest.mark.parametrize("target", [None, {}, {"app": ""}, {"app": 5}, "live"])
def test_connect_must_name_an_application(target: Any) -> None:
    _, reason = told([PUBLISHER.hello() + PUBLISHER.command("connect", target)])
    assert reason == "connect names no application; the URL must be rtmp://HOST/APPLICATION/KEY"


def test_connect_may_not_come_twice() -> None:
    assert refusal(PUBLISHER.connect()) == "connect came twice; one connection has one application"


@pytest.mark.parametrize("name", ["createStream", "publish", "FCPublish", "_checkbw", "deleteStream"])
def test_no_command_comes_before_connect(name: str) -> None:
    _, reason = told([PUBLISHER.hello() + PUBLISHER.command(name, None, "key")])
    assert reason == f"the command {name!r} before connect"


def test_publish_needs_a_message_stream() -> None:
    _, reason = told([CONNECTED + PUBLISHER.publish("key")])
    assert reason == "publish on message stream 1, which createStream did not make"


def test_publish_is_told_and_answered_when_accepted() -> None:
    session, events = session_of(RtmpPublisher().begin("secret", "live"))
    request = events[-1]
    assert isinstance(request, PublishRequested)
    assert (request.stream_id, request.app, request.stream_key, request.kind) == (1, "live", "secret", "live")
    *_, begin, status = answers(session.data_to_send())
    assert (begin.type_id, begin.payload) == (4, bytes([0, 0, 0, 0, 0, 1]))
    assert (status.stream_id, status.values[3]["level"]) == (1, "status")
    assert codes([status]) == ["NetStream.Publish.Start"]


def test_a_stream_key_is_not_printed() -> None:
    _, events = session_of(RtmpPublisher().begin("secret"))
    assert repr(events[-1]) == "PublishRequested(stream_id=1, app='live', kind='live')"


def test_publish_without_a_kind_is_live() -> None:
    _, events = session_of(
        CONNECTED + PUBLISHER.create_stream() + PUBLISHER.command("publish", None, "key", stream_id=1)
    )
    assert isinstance(events[-1], PublishRequested)
    assert events[-1].kind == "live"


@pytest.mark.parametrize("key", ["", None, 5])
def test_publish_without_a_key_is_refused(key: Any) -> None:
    session, events = session_of(
        CONNECTED + PUBLISHER.create_stream() + PUBLISHER.command("publish", None, key, stream_id=1) + video()
    )
    assert isinstance(events[-1], ConnectRequested)
    assert codes(answers(session.data_to_send()))[-1] == "NetStream.Publish.BadName"


def test_publish_may_not_come_twice() -> None:
    assert refusal(PUBLISHER.publish("other")) == "publish came twice on message stream 1"


def test_a_refused_publish_is_told_why_and_its_media_are_dropped() -> None:
    session = ServerSession(SMALL)
    *_, request = session.receive(RtmpPublisher().begin())
    assert isinstance(request, PublishRequested)
    session.data_to_send()
    session.refuse(request, "NetStream.Publish.BadName", "The key is taken.")
    (status,) = answered(session)
    assert status.values[3] == {
        "level": "error", "code": "NetStream.Publish.BadName", "description": "The key is taken.",
    }  # fmt: skip
    session.accept_publish(request)
    session.refuse(request, "again", "")
    assert session.receive(video()) == []
    assert session.data_to_send() == b""


def test_a_refused_publisher_may_try_again() -> None:
    session = ServerSession(SMALL)
    *_, request = session.receive(RtmpPublisher().begin())
    assert isinstance(request, PublishRequested)
    session.refuse(request, "NetStream.Publish.BadName", "")
    first, picture = receive(session, PUBLISHER.publish("better") + video())
    assert isinstance(first, PublishRequested)
    assert isinstance(picture, VideoMessage)
    session.refuse(request, "too late", "the old request")
    assert len(session.receive(video())) == 1


@pytest.mark.parametrize(("error", "level"), [(False, "status"), (True, "error")])
def test_a_publish_that_is_ended_by_us(error: bool, level: str) -> None:
    session = ServerSession(SMALL)
    *_, request = session.receive(RtmpPublisher().begin())
    assert isinstance(request, PublishRequested)
    session.accept_publish(request)
    session.data_to_send()
    session.close_publish(request, error=error)
    (status,) = answered(session)
    assert status.values[3]["level"] == level
    assert codes([status]) == ["NetStream.Unpublish.Success"]
    assert session.receive(video() + PUBLISHER.unpublish()) == []


def test_an_answer_to_a_publisher_that_has_gone_is_not_sent() -> None:
    session = ServerSession(SMALL)
    *_, request, ended = session.receive(RtmpPublisher().begin() + PUBLISHER.unpublish())
    assert isinstance(request, PublishRequested)
    assert ended == PublishEnded(stream_id=1, by="FCUnpublish")
    session.data_to_send()
    session.accept_publish(request)
    session.close_publish(request)
    assert session.data_to_send() == b""


@pytest.mark.parametrize(
    ("command", "by"),
    [
        (PUBLISHER.command("FCUnpublish", None, "key"), "FCUnpublish"),
        (PUBLISHER.command("closeStream", None, stream_id=1), "closeStream"),
        (PUBLISHER.command("deleteStream", None, 1), "deleteStream"),
    ],
)
def test_a_publisher_ends_once_and_late_media_are_dropped(command: bytes, by: str) -> None:
    events, found = after(command * 2 + video())
    assert events == [PublishEnded(stream_id=1, by=by)]
    assert "NetStream.Unpublish.Success" in codes(found)


def test_an_end_of_what_is_not_there() -> None:
    events, _ = after(
        PUBLISHER.command("FCUnpublish", None, "other key")
        + PUBLISHER.command("closeStream", None, stream_id=9)
        + PUBLISHER.command("deleteStream", None, 9)
        + PUBLISHER.command("deleteStream", None, "1")
        + PUBLISHER.command("deleteStream", None, float("nan"))
        + PUBLISHER.command("deleteStream", None)
    )
    assert events == []


def test_publishing_again_on_the_same_message_stream() -> None:
    close = PUBLISHER.command("closeStream", None, stream_id=1)
    events, _ = after(video(5000) + close + PUBLISHER.publish("again") + video(10))
    assert [type(event) for event in events] == [VideoMessage, PublishEnded, PublishRequested, VideoMessage]
    assert isinstance(events[-1], VideoMessage)
    assert events[-1].timestamp_ms == 10


def test_several_message_streams() -> None:
    second = RtmpPublisher(stream_id=2)
    events, found = after(second.create_stream() + second.publish("other") + video(7, 2) + video(8, 1))
    assert [event.stream_id for event in events if isinstance(event, VideoMessage)] == [2, 1]
    assert found[0].values[3] == 2


def test_message_streams_are_bounded_at_a_time() -> None:
    create, delete = PUBLISHER.create_stream(), PUBLISHER.command("deleteStream", None, 1)
    _, found = after((delete + create) * 20)
    assert [answer.values[3] for answer in found if answer.values[0] == "_result"] == [1] * 20
    assert refusal(create * SMALL.max_streams) == "more than 8 message streams"


@pytest.mark.parametrize("stream_id", [0, 2, 0xFFFFFFFF])
def test_media_need_a_publish(stream_id: int) -> None:
    assert refusal(video(0, stream_id)) == f"media on message stream {stream_id}, where nothing is published"


def test_media_need_a_publish_on_their_own_message_stream() -> None:
    reason = refusal(PUBLISHER.create_stream() + video(0, 2))
    assert reason == "media on message stream 2, where nothing is published"


def test_commands_around_publish_are_answered() -> None:
    _, found = after(
        PUBLISHER.command("releaseStream", None, "key", transaction=2)
        + PUBLISHER.command("FCPublish", None, "key", transaction=3)
        + PUBLISHER.command("_checkbw", None, transaction=4)
        + PUBLISHER.command("onSomething", None, transaction=0)
    )
    assert [answer.values[:2] for answer in found] == [
        ["_result", 2], ["_result", 3], ["onFCPublish", 0], ["_error", 4],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["play", "play2"])
def test_playing_is_refused(name: str) -> None:
    events, (status,) = after(PUBLISHER.command(name, None, "key", stream_id=1))
    assert events == [PlayRefused(stream_id=1)]
    assert (status.stream_id, status.values[3]["level"]) == (1, "error")
    assert codes([status]) == ["NetStream.Play.Failed"]
