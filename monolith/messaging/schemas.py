"""What is published: each domain event as a CloudEvent 1.0 in JSON, and the messages that ask for something.

Rules:
- The exchange's version is that of the envelope; `schemaversion` is that of the event's data, type by type. New
  optional fields come without a new version: take what you know, leave the rest.
- `data` is the event as it is stored, in its newest schema version, without what is nobody's business outside the
  program (`HIDDEN_FIELDS`). A field that holds its default may be missing.
- `id` is the event's id, the same each time it is sent: receivers drop what they have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from eventsourcing.codec import SCHEMA_VERSION_KEY, EventCodec
from eventsourcing.events import RecordedEvent
from monolith.domain.events import DOMAIN_EVENTS, HIDDEN_FIELDS
from monolith.domain.models import MODEL_KEYS

CONTENT_TYPE: Final = "application/cloudevents+json"
_encode: Final = msgspec.json.Encoder().encode
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ALL_SHOWN: Final = frozenset(
    cls.__name__ for cls in DOMAIN_EVENTS if not set(HIDDEN_FIELDS).intersection(cls.__struct_fields__)
)
"""Event types without a hidden field; of types that this program does not know nobody can tell."""


class EventMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A CloudEvent 1.0. `source`: which event store it lies in; `type`: kind of stream and of event, also the routing
    key; `subject`: its stream; `time`: when it was recorded; `streamposition`: its place in the stream, from 0;
    `commitposition`: its place among all events (compare as integers; gaps are normal); `schemaversion`: of `data`."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    streamposition: int
    commitposition: str
    schemaversion: int
    data: msgspec.Raw
    correlationid: str | msgspec.UnsetType = msgspec.UNSET
    causationid: str | msgspec.UnsetType = msgspec.UNSET
    traceparent: str | msgspec.UnsetType = msgspec.UNSET


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it goes to the broker."""

    body: bytes
    routing_key: str
    message_id: str
    correlation_id: str | None
    headers: Mapping[str, Any]
    recorded_at: float


class StartAnalysis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Analyse the video behind a URL, as `POST /analysis/start` does. The message's id is what the `Idempotency-Key` is
    there: sent again, it starts nothing new, and has the first answer."""

    videoURL: Any  # noqa: N815  # as in the HTTP API
    modelsToRun: Any  # noqa: N815
    videoName: Any = None  # noqa: N815
    frameStep: Any = None  # noqa: N815


class CancelAnalysis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End the analysis of a video; what was analysed is kept. A live source ends in order first; another message (with
    an id of its own) ends it at once. Sent again with its id, it does nothing more."""

    video_id: UUID


class AnalysisStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The video was taken in; what becomes of it is told by events. `repeated`: by an earlier message of this id."""

    video_id: str
    run_id: str
    video_url: str
    video_name: str
    models_to_run: tuple[str, ...]
    frame_step: int
    repeated: bool


class AnalysisCancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The analysis has ended, or ends in order."""

    video_id: str


class CommandRefused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing was done. `code`: the kind of problem, in fixed words; `detail`: what was wrong and what would be right,
    for people; `field`: the wrong part of the message, if it is one part."""

    code: Literal["invalid-message", "invalid-request", "video-not-found", "not-possible"]
    detail: str
    field: str | None = None


START_EXAMPLE: Final = {
    "videoURL": "https://example.org/clip.mp4",
    "modelsToRun": list(MODEL_KEYS),
    "videoName": "clip",
    "frameStep": 10,
}


class EventMessages:
    """Makes messages of recorded events. `source`: names the event store."""

    def __init__(self, codec: EventCodec, source: str) -> None:
        self._codec = codec
        self._source = source

    def message(self, event: RecordedEvent) -> Outgoing:
        """Raises EventDecodingError for one that does not fit its class."""
        metadata = event.metadata
        data, version = self._data(event, int(metadata.get(SCHEMA_VERSION_KEY, "1")))
        kind = f"{event.stream_name.partition('-')[0]}.{event.event_type}"
        correlation_id = metadata.get("correlation_id")
        body = EventMessage(
            id=str(event.event_id),
            source=self._source,
            type=kind,
            subject=event.stream_name,
            time=datetime.fromtimestamp(event.recorded_at, UTC).isoformat(),
            streamposition=event.stream_position,
            commitposition=str(event.commit_position),
            schemaversion=version,
            data=data,
            correlationid=correlation_id or msgspec.UNSET,
            causationid=metadata.get("causation_id") or msgspec.UNSET,
            traceparent=metadata.get("traceparent") or msgspec.UNSET,
        )
        headers = {
            "stream_name": event.stream_name,
            "stream_position": event.stream_position,
            "commit_position": event.commit_position,
            SCHEMA_VERSION_KEY: version,
        }
        if correlation_id:
            headers["correlation_id"] = correlation_id
        if body.traceparent:
            headers["traceparent"] = body.traceparent
        return Outgoing(
            body=_with_constants(_encode(body)),
            routing_key=kind,
            message_id=body.id,
            correlation_id=correlation_id,
            headers=headers,
            recorded_at=event.recorded_at,
        )

    def _data(self, event: RecordedEvent, version: int) -> tuple[msgspec.Raw, int]:
        """The event's public JSON and its schema version. What a newer program wrote is passed on as it is."""
        newest = self._codec.newest_version(event.event_type)
        data = event.data
        if newest is not None and version < newest:
            data, version = _encode(self._codec.decode(event)), newest
        if event.event_type not in _ALL_SHOWN:
            data = _encode({name: raw for name, raw in _fields(data).items() if name not in HIDDEN_FIELDS})
        return msgspec.Raw(data), version


_CONSTANTS: Final = b'{"specversion":"1.0","datacontenttype":"application/json",'


def _with_constants(body: bytes) -> bytes:
    """Attributes that are the same in each message."""
    return _CONSTANTS + body[1:]
