"""The OpenAPI document: bodies are described by the structs that are encoded, problems by RFC 9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from monolith.api.analytics_answers import ANALYTICS_TYPES
from monolith.api.answers import (
    AnnotatedAnswer,
    ConnectionAnswer,
    EventAnswer,
    HealthAnswer,
    MetricAnswer,
    RtmpEndpointAnswer,
    SessionAnswer,
    SubmittedAnswer,
    VideoAnswer,
    WebRtcEndpointAnswer,
)
from monolith.api.openapi_access import add_access
from monolith.api.problems import MEDIA_TYPE, Problem
from monolith.api.rebuild_answer import RebuildAnswer, RebuiltAnswer
from monolith.api.retention_answer import RetentionAnswer, RetentionScheduleAnswer, RetentionStateAnswer
from monolith.api.viewer_answers import ViewerAnswer
from monolith.api.webhook_answers import (
    AddedWebhookAnswer,
    ParkedAnswer,
    ReplayAnswer,
    WebhookAnswer,
    WebhookTestAnswer,
)
from monolith.live.playback.viewer_messages import ClockPoint, ViewerHello, ViewerResults
from monolith.readmodels.rendering import ColorEntry, FaceEntry, ObjectEntry, ResultRow

Responses = dict[int | str, dict[str, Any]]

_TYPES: Final = (
    SubmittedAnswer, VideoAnswer, MetricAnswer, EventAnswer, HealthAnswer, SessionAnswer, Problem, ResultRow,
    ObjectEntry, FaceEntry, ColorEntry, AnnotatedAnswer, ConnectionAnswer,
    RebuildAnswer, RebuiltAnswer,
    RetentionAnswer, RetentionScheduleAnswer, RetentionStateAnswer,
    RtmpEndpointAnswer,
    WebRtcEndpointAnswer,
    WebhookAnswer, AddedWebhookAnswer, ParkedAnswer, ReplayAnswer, WebhookTestAnswer,
    ViewerAnswer, ClockPoint, ViewerHello, ViewerResults,
    *ANALYTICS_TYPES,
)  # fmt: skip
_PLACE: Final = "#/components/schemas/{name}"


def ref(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": _PLACE.format(name=kind.__name__)}


def list_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"type": "array", "items": ref(kind)}


def json_answer(
    schema: dict[str, Any],
    description: str,
    *,
    status: int = 200,
    example: object = None,
    headers: dict[str, str] | None = None,
) -> Responses:
    """A JSON answer; `headers`: name → description."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return _answer(status, description, "application/json", content, headers)


def other_answer(media_type: str, description: str, *, binary: bool = False) -> Responses:
    schema = {"type": "string", "format": "binary"} if binary else {"type": "string"}
    return _answer(200, description, media_type, {"schema": schema}, None)


def empty_answer(status: int, description: str) -> Responses:
    return {status: {"description": description}}


def problems(*statuses: int) -> Responses:
    """Each answered as `application/problem+json`; 421, 500 and 503 may always come."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": ref(Problem)}},
        }
        for status in (*statuses, 421, 500, 503)
    }


def _answer(
    status: int, description: str, media_type: str, content: dict[str, Any], headers: dict[str, str] | None
) -> Responses:
    answer: dict[str, Any] = {"description": description, "content": {media_type: content}}
    if headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
        }
    return {status: answer}


def add_openapi(app: FastAPI, version: str) -> None:
    """Replace the generated document by the completed one."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            generated = get_openapi(
                title=app.title, version=version, description=app.description, routes=app.routes
            )
            app.openapi_schema = _completed(generated)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # wrong parameters are answered with 400
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_PLACE)
    entries = {"anyOf": [ref(ObjectEntry), ref(FaceEntry), ref(ColorEntry)]}
    schemas["ResultRow"]["properties"]["inference_results"]["items"] = entries
    schemas["ViewerResults"]["properties"]["inference_results"] = {"type": "array", "items": entries}
    document["components"] = {"schemas": schemas}
    add_access(document, {MEDIA_TYPE: {"schema": ref(Problem)}})
    return document
