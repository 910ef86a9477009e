from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventDecodingError
from eventsourcing.events import RecordedEvent
from eventsourcing.upcasters import Upcaster
from monolith.domain.events import DOMAIN_EVENTS, RunCompleted, VideoProbed
from monolith.messaging.schemas import EventMessages
from tests.builders import RUN, VIDEO, source

CODEC = EventCodec(DOMAIN_EVENTS)
MESSAGES = EventMessages(CODEC, "urn:uuid:store")
COMPLETED = RunCompleted(
    video_id=VIDEO, run_id=RUN, frames=3, dropped=0, greatest_frame=3, coverage=1.0, completed_at=5.0
)


def recorded(event_type: str, data: bytes, metadata: dict[str, str] | None = None) -> RecordedEvent:
    return RecordedEvent(
        stream_name=f"video-{VIDEO}",
        stream_position=7,
        commit_position=2**40,
        event_type=event_type,
        data=data,
        metadata_json=json.dumps(metadata).encode() if metadata else b"",
        id_bytes=UUID(int=1).bytes,
        recorded_at=0.5,
    )


def body_of(event: RecordedEvent, messages: EventMessages = MESSAGES) -> dict[str, Any]:
    return dict(json.loads(messages.message(event).body))


def test_an_event_is_a_cloud_event() -> None:
    event = recorded(
        "RunCompleted", CODEC.encode(COMPLETED).data, {"correlation_id": VIDEO, "traceparent": "00-a-b-01"}
    )
    message = MESSAGES.message(event)
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "id": str(UUID(int=1)),
        "source": "urn:uuid:store",
        "type": "video.RunCompleted",
        "subject": f"video-{VIDEO}",
        "time": "1970-01-01T00:00:00.500000+00:00",
        "streamposition": 7,
        "commitposition": str(2**40),
        "schemaversion": 1,
        "correlationid": VIDEO,
        "traceparent": "00-a-b-01",
        "data": json.loads(event.data),
    }
    assert message.routing_key == "video.RunCompleted"
    assert message.message_id == str(UUID(int=1))
    assert message.headers["commit_position"] == 2**40


def test_addresses_inside_the_server_are_left_out() -> None:
    probed = VideoProbed(
        video_id=VIDEO,
        path="/inside/clip.mp4",
        spooled=True,
        size_bytes=1,
        source=source(),
        ingest_seconds=0.1,
    )
    body = body_of(recorded("VideoProbed", CODEC.encode(probed).data))
    assert "path" not in body["data"]
    assert body["data"]["size_bytes"] == 1


def test_what_a_newer_program_wrote_is_passed_on_without_what_may_be_hidden() -> None:
    body = body_of(recorded("VideoBlessed", b'{"by":"me","path":"/inside"}', {"schema_version": "3"}))
    assert body["type"] == "video.VideoBlessed"
    assert (body["schemaversion"], body["data"]) == (3, {"by": "me"})


def test_an_old_event_is_told_in_its_newest_shape() -> None:
    rename = Upcaster("RunCompleted", 1, lambda old: {**old, "frames": old["frame_count"]})
    messages = EventMessages(EventCodec(DOMAIN_EVENTS, [rename]), "urn:uuid:store")
    old = json.loads(CODEC.encode(COMPLETED).data)
    old["frame_count"] = old.pop("frames")
    body = body_of(recorded("RunCompleted", json.dumps(old).encode()), messages)
    assert body["schemaversion"] == 2
    assert body["data"]["frames"] == 3


def test_an_event_that_does_not_fit_its_class_is_an_error() -> None:
    rename = Upcaster("RunCompleted", 1, lambda old: old)
    messages = EventMessages(EventCodec(DOMAIN_EVENTS, [rename]), "urn:uuid:store")
    with pytest.raises(EventDecodingError):
        messages.message(recorded("RunCompleted", b"{}"))
