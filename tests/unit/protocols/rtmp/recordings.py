"""What publishers send, and what a session makes of it."""

from __future__ import annotations

from collections.abc import Iterable

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.events import Event, PublishRequested
from monolith.protocols.rtmp.limits import Limits
from monolith.protocols.rtmp.session import ServerSession, SessionError
from tests.peers.rtmp_publisher import RtmpPublisher, user_control

CONFIG = b"\x17\x00\x00\x00\x00avcC"
KEYFRAME = b"\x17\x01\x00\x00\x00" + bytes(range(256)) * 3
FRAME = b"\x27\x01\x00\x00\x28" + bytes(200)
SMALL = Limits(max_message_size=4096, max_command_size=1024, max_held_size=6000, max_unsent_size=8192)


def usual() -> bytes:
    """A session from the first byte to the end, with chunks of every type."""
    publisher = RtmpPublisher()
    return b"".join(
        [
            publisher.hello(),
            publisher.connect(fourCcList=["hvc1", "av01"]),
            publisher.command("releaseStream", None, "key"),
            publisher.command("FCPublish", None, "key"),
            publisher.create_stream(),
            publisher.publish("key"),
            publisher.metadata({"width": 640, "nested": {"list": [1, "two", None, True]}}),
            publisher.video(CONFIG, 0),
            publisher.audio(b"\xaf\x00sound", 0),
            publisher.video(KEYFRAME, 40),
            user_control(6, b"ping"),
            publisher.video(FRAME, 40, kind=1),
            publisher.video(FRAME, 33, kind=2),
            publisher.video(FRAME, 0, kind=3),
            publisher.set_chunk_size(4096),
            publisher.audio(b"\xaf\x01sound", 23, kind=1),
            publisher.video(KEYFRAME, 0x1000000, kind=1),
            publisher.unpublish(),
        ]
    )


def session_of(data: bytes = b"", limits: Limits = SMALL) -> tuple[ServerSession, list[Event]]:
    """A session that has received `data`, and its events; publishes are accepted."""
    session = ServerSession(limits)
    return session, receive(session, data)


def receive(session: ServerSession, data: bytes) -> list[Event]:
    events = everything(session, data)
    for event in events:
        if isinstance(event, PublishRequested):
            session.accept_publish(event)
    return events


def everything(session: ServerSession, data: bytes) -> list[Event]:
    """However many messages there are."""
    events = session.receive(data)
    while session.more:
        events += session.receive(b"")
    return events


def told(pieces: Iterable[bytes], limits: Limits = SMALL) -> tuple[list[Event], str]:
    """Events of all `pieces`, and why the session broke ("" where it did not). It never holds more than it may."""
    session, events = ServerSession(limits), []
    for piece in pieces:
        try:
            events += everything(session, piece)
        except SessionError as error:
            return [*events, *error.events], str(error)
        finally:
            assert session.held <= limits.max_held_size + len(piece)
            session.data_to_send()
    return events, ""


def refusal(data: bytes, limits: Limits = SMALL) -> str:
    """Why a session ends that receives `data` after a usual beginning up to the first media."""
    session, _ = session_of(RtmpPublisher().begin(), limits)
    try:
        everything(session, data)
    except ProtocolError as error:
        return str(error)
    raise AssertionError("nothing was refused")
