"""The AsyncAPI 3.0 document of what is published and taken: made from the same structs that are encoded and decoded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeAlias, get_args

import msgspec

from eventsourcing.codec import EventCodec
from monolith.domain.events import (
    DOMAIN_EVENTS,
    HIDDEN_FIELDS,
    DomainEvent,
    FrameEvent,
    ResultEvent,
    VideoEvent,
)
from monolith.domain.models import MODEL_KEYS
from monolith.messaging import names
from monolith.messaging.schemas import (
    CONTENT_TYPE,
    START_EXAMPLE,
    AnalysisCancelled,
    AnalysisStarted,
    CancelAnalysis,
    CommandRefused,
    EventMessage,
    StartAnalysis,
)

Document: TypeAlias = dict[str, Any]

CONTRACT_VERSION: Final = "1.0.0"
"""Of the messages. The first part is that in the names of exchange and queues; the second grows with what is added."""

_SCHEMA: Final = "#/components/schemas/{name}"
_MESSAGE: Final = "#/components/messages/"
_KINDS: Final[dict[str, Any]] = {"video": VideoEvent, "frames": FrameEvent, "results": ResultEvent}
_COMMANDS: Final[tuple[type[msgspec.Struct], ...]] = (StartAnalysis, CancelAnalysis)
_REPLIES: Final[tuple[type[msgspec.Struct], ...]] = (AnalysisStarted, AnalysisCancelled, CommandRefused)
_HEADERS: Final[Document] = {
    "type": "object",
    "required": ["stream_name", "stream_position", "commit_position", "schema_version"],
    "properties": {
        "stream_name": {"type": "string"},
        "stream_position": {"type": "integer", "minimum": 0},
        "commit_position": {"type": "integer", "minimum": 0},
        "schema_version": {"type": "integer", "minimum": 1},
        "correlation_id": {"type": "string", "description": "The video's id"},
        "traceparent": {"type": "string", "description": "Of the trace that the event belongs to (W3C)"},
    },
}
_DESCRIPTION: Final = (
    "What happens to videos, told to a topic exchange, and commands taken from a queue. Every message has a"
    " `message_id`; of an event it is the event's id. An event may come more than once: drop ids that you have seen,"
    " and each stream is in order and whole. The server's own fields (`location`, `path`, `source_digest`) are"
    " left out."
)


@cache
def asyncapi_document() -> Document:
    """To be read, not changed."""
    events = dict(_event_messages(EventCodec(DOMAIN_EVENTS)))
    others = {kind.__name__: _json_message(kind) for kind in (*_COMMANDS, *_REPLIES)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Video analysis",
            "version": CONTRACT_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "{host}",
                "pathname": "/",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The server that VIDEO_ANALYSIS_RABBITMQ_URL names",
                "variables": {"host": {"default": "localhost:5672"}},
            }
        },
        "channels": {
            "events": _events_channel(list(events)),
            "commands": _queue_channel(names.COMMANDS_QUEUE, _names(_COMMANDS), _COMMANDS_TEXT),
            "replies": {"address": None, "messages": _references(_names(_REPLIES)), "description": _REPLIES_TEXT},
            "deadCommands": _queue_channel(names.DEAD_COMMANDS_QUEUE, _names(_COMMANDS), _DEAD_TEXT),
        },
        "operations": _operations(),
        "components": {"messages": events | others, "schemas": _schemas()},
    }  # fmt: skip


_COMMANDS_TEXT: Final = (
    "A quorum queue. `type` names the command, `message_id` is needed: what was done for it is not done again."
    " `reply_to` and `correlation_id` say where the reply goes."
)
_REPLIES_TEXT: Final = "Where `reply_to` of the command says; `type` names the reply."
_DEAD_TEXT: Final = (
    f"Messages that were no commands, could not be carried out without anybody to tell (header `{names.REASON_HEADER}`"
    f" says why), or were delivered {names.DELIVERY_LIMIT} times without an end."
)


def _events_channel(messages: list[str]) -> Document:
    exchange = {"name": names.EVENTS_EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": names.EVENTS_EXCHANGE,
        "description": "Bind a queue of your own; routing keys are the names of the messages, as in `video.*`.",
        "messages": _references(messages),
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _queue_channel(queue: str, messages: list[str], description: str) -> Document:
    return {
        "address": queue,
        "description": description,
        "messages": _references(messages),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operations() -> Document:
    channel = "#/channels/"
    return {
        "publishEvents": {
            "action": "send",
            "channel": {"$ref": f"{channel}events"},
            "summary": "Every event, in order, with its routing key",
        },
        "takeCommands": {
            "action": "receive",
            "channel": {"$ref": f"{channel}commands"},
            "summary": "Commands are carried out, and answered",
            "reply": {
                "address": {"location": "$message.header#/reply_to"},
                "channel": {"$ref": f"{channel}replies"},
                "messages": [{"$ref": f"{channel}replies/messages/{name}"} for name in _names(_REPLIES)],
            },
        },
        "setCommandsAside": {
            "action": "send",
            "channel": {"$ref": f"{channel}deadCommands"},
            "summary": "What could not be carried out",
        },
    }


def _event_messages(codec: EventCodec) -> Iterator[tuple[str, Document]]:
    for category, union in _KINDS.items():
        for kind in get_args(union):
            name = f"{category}.{kind.__name__}"
            payload = {
                "allOf": [
                    {"$ref": _SCHEMA.format(name="EventMessage")},
                    {
                        "type": "object",
                        "properties": {
                            "type": {"const": name},
                            "schemaversion": {"const": codec.newest_version(kind.__name__)},
                            "data": {"$ref": _SCHEMA.format(name=kind.__name__)},
                        },
                    },
                ]
            }
            yield name, _message(name, kind, CONTENT_TYPE, payload) | {"headers": _HEADERS}


def _json_message(kind: type[msgspec.Struct]) -> Document:
    name = kind.__name__
    message = _message(name, kind, "application/json", {"$ref": _SCHEMA.format(name=name)})
    if kind is StartAnalysis:
        message["examples"] = [{"payload": START_EXAMPLE}]
    return message


def _message(name: str, kind: type, content_type: str, payload: Document) -> Document:
    text = inspect.cleandoc(kind.__doc__ or "")
    return {
        "name": name,
        "title": name,
        "summary": text.partition("\n\n")[0].replace("\n", " "),
        "contentType": content_type,
        "payload": payload,
    }


def _schemas() -> Document:
    """JSON Schemas of all that is in messages."""
    kinds: list[type[DomainEvent] | type[msgspec.Struct]] = [
        *DOMAIN_EVENTS,
        EventMessage,
        *_COMMANDS,
        *_REPLIES,
    ]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMA)
    for event in DOMAIN_EVENTS:
        _without_hidden(schemas[event.__name__])
    _complete_envelope(schemas["EventMessage"])
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    schemas["StartAnalysis"]["properties"] |= {
        "videoURL": {"type": "string", "description": "http, https, rtsp or rtsps"},
        "modelsToRun": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": list(MODEL_KEYS)},
        },
        "videoName": {"type": ["string", "null"], "maxLength": 500},
        "frameStep": {"type": ["integer", "null"], "minimum": 1, "default": 1},
    }
    return schemas


def _without_hidden(schema: Document) -> None:
    for name in HIDDEN_FIELDS:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema.get("required", ()) if name not in HIDDEN_FIELDS]


def _complete_envelope(schema: Document) -> None:
    """What is the same in each message, and what `Raw` and text do not say."""
    constants = {"specversion": {"const": "1.0"}, "datacontenttype": {"const": "application/json"}}
    schema["properties"] = constants | schema["properties"]
    schema["required"] = [*constants, *schema["required"]]
    schema["properties"]["data"] = {"type": "object"}
    schema["properties"]["id"] = {"type": "string", "format": "uuid"}
    schema["properties"]["time"] = {"type": "string", "format": "date-time"}
    schema["properties"]["commitposition"] = {"type": "string", "pattern": "^[0-9]+$"}


def _names(kinds: tuple[type[msgspec.Struct], ...]) -> list[str]:
    return [kind.__name__ for kind in kinds]


def _references(messages: list[str]) -> Document:
    return {name: {"$ref": f"{_MESSAGE}{name}"} for name in messages}
