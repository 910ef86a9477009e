"""What the endpoints have in common that videos are pushed to, by whatever protocol."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from monolith.api.answers import SubmittedAnswer, submitted_answer
from monolith.api.openapi import json_answer, ref
from monolith.api.requests import is_repeat, require_room
from monolith.api.routes.submissions import OPTIONS, SUBMITTED_HEADERS, submitted_headers
from monolith.api.services import ApiServices
from monolith.application.push_sources import PushEndpoint
from monolith.domain.events import PushKind

_NOT_KEPT: Final = {"Cache-Control": "no-store"}


def body_of(example: Any) -> dict[str, Any]:
    """The request's body, for the schema."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["modelsToRun"], "properties": OPTIONS},
                    "example": example,
                }
            },
        }
    }


def made(answer: type[SubmittedAnswer], example: Any) -> dict[int | str, dict[str, Any]]:
    """The answer, for the schema."""
    return json_answer(
        ref(answer), "Waits for its publisher", status=201, example=example, headers=SUBMITTED_HEADERS
    )


async def create_endpoint(
    services: ApiServices, kind: PushKind, body: dict[str, Any], idempotency_key: str | None
) -> PushEndpoint:
    """As the request's body asks for. Raises DomainErrors, EnvironmentFailure."""
    if not await is_repeat(services, idempotency_key):
        await require_room(services)
    return await services.pushed.create(
        kind,
        models=body.get("modelsToRun"),
        frame_step=body.get("frameStep"),
        video_name=body.get("videoName"),
        idempotency_key=idempotency_key,
    )


def endpoint_response(
    endpoint: PushEndpoint, base: str, answer: type[SubmittedAnswer], **told: str
) -> Response:
    """`told`: the fields of `answer` that only publishers need; they hold secrets, so nobody may keep them."""
    submitted = submitted_answer(endpoint.submitted, base)
    headers = submitted_headers(endpoint.submitted, submitted) | _NOT_KEPT
    fields: dict[str, Any] = msgspec.structs.asdict(submitted) | told
    full = answer(**fields)
    return Response(msgspec.json.encode(full), 201, headers=headers, media_type="application/json")
