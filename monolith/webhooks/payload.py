"""What receivers get: a stored event as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from eventsourcing.events import RecordedEvent

TEST_TYPE: Final = "WebhookTest"
_HIDDEN: Final = ("location", "path", "source_digest")
"""Fields with addresses inside the server, or that help to guess a secret."""
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Message(NamedTuple):
    """`message_id` stays the same however often it is sent."""

    message_id: str
    body: bytes


class _Owner(msgspec.Struct):
    video_id: str = ""


def message_of(event: RecordedEvent) -> Message:
    """Raises msgspec.DecodeError for an event that is no JSON object."""
    data = {name: value for name, value in _fields(event.data).items() if name not in _HIDDEN}
    message_id = str(event.event_id)
    body = {
        "id": message_id,
        "type": event.event_type,
        "timestamp": _iso_time(event.recorded_at),
        "stream_name": event.stream_name,
        "stream_position": event.stream_position,
        "commit_position": event.commit_position,
        "data": data,
    }
    return Message(message_id, msgspec.json.encode(body))


def trial_message(message_id: str, webhook_id: str, at: float) -> Message:
    """What a user sends to see whether the receiver takes it."""
    body: dict[str, Any] = {
        "id": message_id,
        "type": TEST_TYPE,
        "timestamp": _iso_time(at),
        "data": {"webhook_id": webhook_id},
    }
    return Message(message_id, msgspec.json.encode(body))


def video_of(event: RecordedEvent) -> str:
    """The video that the event is about; its stream's name where it does not say."""
    try:
        return msgspec.json.decode(event.data, type=_Owner).video_id or event.stream_name
    except msgspec.DecodeError:
        return event.stream_name


def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
