"""What receivers get: the same documents as subscribers of the broker, CloudEvents 1.0 in JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from eventsourcing.errors import EventStoreError
from eventsourcing.events import RecordedEvent
from monolith.messaging.schemas import CONTENT_TYPE, EventMessages

__all__ = ["CONTENT_TYPE", "TEST_TYPE", "Message", "Payloads", "UnreadableEventError", "video_of"]

TEST_TYPE: Final = "webhook.WebhookTest"


class Message(NamedTuple):
    """`message_id` stays the same however often it is sent."""

    message_id: str
    body: bytes


class UnreadableEventError(Exception):
    """The stored event cannot be told; says why."""


class Payloads:
    """Makes messages. `source`: names the event store."""

    def __init__(self, messages: EventMessages, source: str) -> None:
        self._messages = messages
        self._source = source

    def of_event(self, event: RecordedEvent) -> Message:
        """Raises UnreadableEventError."""
        try:
            outgoing = self._messages.message(event)
        except (EventStoreError, ValueError, msgspec.MsgspecError) as error:
            raise UnreadableEventError(f"the event cannot be read: {error}") from error
        return Message(outgoing.message_id, outgoing.body)

    def of_trial(self, message_id: str, webhook_id: str, at: float) -> Message:
        """What a user sends to see whether the receiver takes it."""
        body: dict[str, Any] = {
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "id": message_id,
            "source": self._source,
            "type": TEST_TYPE,
            "subject": f"webhook-{webhook_id}",
            "time": datetime.fromtimestamp(at, UTC).isoformat(),
            "data": {"webhook_id": webhook_id},
        }
        return Message(message_id, msgspec.json.encode(body))


class _Owner(msgspec.Struct):
    video_id: str = ""


def video_of(event: RecordedEvent) -> str:
    """The video that the event is about; its stream's name where it does not say."""
    try:
        return msgspec.json.decode(event.data, type=_Owner).video_id or event.stream_name
    except msgspec.DecodeError:
        return event.stream_name
