from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import jsonschema_rs
import msgspec
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from hypothesis import given, settings

from eventsourcing.codec import EventCodec
from eventsourcing.events import RecordedEvent
from monolith.domain.events import DOMAIN_EVENTS, HIDDEN_FIELDS
from monolith.messaging.asyncapi import asyncapi_document
from monolith.messaging.asyncapi_page import asyncapi_page
from monolith.messaging.schemas import START_EXAMPLE, CommandRefused, EventMessages
from tests.histories import Step, histories

DOCUMENT = asyncapi_document()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """Of the payload of a message."""
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    whole = {**payload, "components": {"schemas": DOCUMENT["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(whole)


def test_it_is_an_asyncapi_document() -> None:
    read = ApplicationSchema.model_validate(DOCUMENT)
    assert set(read.channels) == {"events", "commands", "replies", "deadCommands"}


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        part: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_every_event_has_a_message_and_hides_what_is_hidden() -> None:
    messages = set(DOCUMENT["components"]["messages"])
    assert {f"video.{kind.__name__}" for kind in DOMAIN_EVENTS} & messages
    told = {name.partition(".")[2] for name in messages if "." in name}
    assert told == {kind.__name__ for kind in DOMAIN_EVENTS}
    for kind in DOMAIN_EVENTS:
        schema = DOCUMENT["components"]["schemas"][kind.__name__]
        assert not set(HIDDEN_FIELDS) & (set(schema["properties"]) | set(schema["required"]))


@settings(max_examples=20, deadline=None)
@given(histories())
def test_what_is_told_is_as_the_document_says(history: list[tuple[float, Step]]) -> None:
    codec = EventCodec(DOMAIN_EVENTS)
    messages = EventMessages(codec, "urn:uuid:store")
    for position, (day, (stream, event)) in enumerate(history):
        new = codec.encode(event)
        recorded = RecordedEvent(
            stream_name=stream,
            stream_position=position,
            commit_position=position,
            event_type=new.event_type,
            data=new.data,
            metadata_json=b"",
            id_bytes=uuid4().bytes,
            recorded_at=day * 86400,
        )
        message = messages.message(recorded)
        validator(message.routing_key).validate(json.loads(message.body))


def test_the_example_of_a_command_and_a_refusal_are_as_the_document_says() -> None:
    validator("StartAnalysis").validate(START_EXAMPLE)
    refused = CommandRefused(code="invalid-request", detail="what is right", field="videoURL")
    validator("CommandRefused").validate(json.loads(msgspec.json.encode(refused)))
    assert not validator("StartAnalysis").is_valid({"videoURL": "http://h/a.mp4"})


def test_the_page_loads_nothing_from_elsewhere_and_names_every_message() -> None:
    page = asyncapi_page(DOCUMENT)
    found: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend((tag, value or "") for name, value in attrs if name in ("href", "src"))

    Reader().feed(page)
    assert all(value.startswith(("/", "#")) for _, value in found)
    assert not any(tag == "script" for tag, _ in found)
    for name in DOCUMENT["components"]["messages"]:
        assert f'id="{name}"' in page
    assert "`" not in page and "<code>message_id</code>" in page
    assert "&quot;videoURL&quot;: &quot;https://example.org" in page
