"""Webhooks: who is told of events over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from monolith.api.openapi import empty_answer, json_answer, list_of, problems, ref
from monolith.api.problems import ApiError
from monolith.api.requests import Services, declared_bytes, json_object
from monolith.api.services import ApiServices
from monolith.api.webhook_answers import (
    AddedWebhookAnswer,
    ParkedAnswer,
    ReplayAnswer,
    WebhookAnswer,
    WebhookTestAnswer,
    added_answer,
    parked_answer,
    trial_answer,
    webhook_answer,
)
from monolith.domain.errors import InvalidRequestError
from monolith.domain.webhook import EVERYTHING, MOST_PARKED
from monolith.webhooks.service import EVENT_NAMES, Webhooks

router = APIRouter(tags=["webhooks"])

_WEBHOOK_ID: Final = "0197c0de-0000-7000-8000-000000000002"
_MESSAGE_ID: Final = "0197c0de-0000-7000-8000-000000000003"
_EXAMPLE: Final = {
    "webhook_id": _WEBHOOK_ID,
    "url": "https://example.org/hooks/video",
    "events": ["RunCompleted", "RunFailed"],
    "description": "dashboard",
    "ts": "2026-01-31T12:00:00.000000+00:00",
    "status": "active",
    "reason": None,
    "parked": 0,
    "replaying": 0,
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["url", "events"],
                    "properties": {
                        "url": {
                            "type": "string",
                            "format": "uri",
                            "description": "http or https, at an address that videos may be fetched from, too",
                        },
                        "events": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "enum": [*EVENT_NAMES, EVERYTHING]},
                            "description": "Names of events, or `*` for all",
                        },
                        "description": {"type": "string", "maxLength": 200, "description": "For people"},
                    },
                },
                "example": {"url": _EXAMPLE["url"], "events": _EXAMPLE["events"], "description": "dashboard"},
            }
        },
    }
}
_IDS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "message_ids": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "uuid"},
                            "description": "Only these; otherwise all that are parked",
                        }
                    },
                },
                "example": {"message_ids": [_MESSAGE_ID]},
            }
        },
    }
}


def _webhooks(services: Services) -> Webhooks:
    return service_of(services)


def service_of(services: ApiServices) -> Webhooks:
    """Raises ApiError."""
    if services.webhooks is None:
        raise ApiError(503, "this server was started without webhooks")
    return services.webhooks


def _webhook_id(
    webhook_id: Annotated[
        str,
        Path(description="UUID of the webhook", json_schema_extra={"format": "uuid"}, examples=[_WEBHOOK_ID]),
    ],
) -> str:
    try:
        return str(UUID(webhook_id))
    except ValueError as error:
        raise InvalidRequestError(f"{webhook_id[:100]!r} is not a UUID", field="webhook_id") from error


Hooks = Annotated[Webhooks, Depends(_webhooks)]
WebhookId = Annotated[str, Depends(_webhook_id)]
Limit = Annotated[int, Query(ge=1, le=MOST_PARKED, description="At most so many")]
Offset = Annotated[int, Query(ge=0, le=2**31, description="Leave out so many at the beginning")]


@router.post(
    "/webhooks",
    summary="Send events to a receiver from now on",
    description=(
        "Each event is POSTed to `url` as a JSON document, signed as Standard Webhooks has it: `webhook-id` (the same"
        " each time the event is sent), `webhook-timestamp`, `webhook-signature`. 2xx counts as delivered; anything"
        " else is tried again, ever more slowly, and parked after a day; 410 disables the webhook. Redirects are not"
        " followed. Events of one video come in their order, one after another; some may come twice."
    ),
    response_class=Response,
    status_code=201,
    responses={
        **json_answer(
            ref(AddedWebhookAnswer),
            "It is at work; keep the secret, it is not told again",
            status=201,
            example={**_EXAMPLE, "secret": "whsec_…"},
            headers={"Location": "The webhook"},
        ),
        **problems(400, 409, 413),
    },
    openapi_extra=_BODY,
)
async def add_webhook(request: Request, services: Services, webhooks: Hooks) -> Response:
    body = await json_object(request, services)
    _refuse_unknown(body, "url", "events", "description")
    added = await webhooks.add(body.get("url"), body.get("events"), body.get("description"))
    text = msgspec.json.encode(added_answer(added.webhook, added.secret))
    headers = {"Location": f"/webhooks/{added.webhook.webhook_id}", "Cache-Control": "no-store"}
    return Response(text, 201, headers=headers, media_type="application/json")


@router.get(
    "/webhooks",
    summary="The webhooks there are",
    response_class=Response,
    responses={
        **json_answer(list_of(WebhookAnswer), "The first coming first", example=[_EXAMPLE]),
        **problems(),
    },
)
async def webhooks(webhooks: Hooks) -> Response:
    return _json([webhook_answer(webhook) for webhook in webhooks.all()])


@router.get(
    "/webhooks/{webhook_id}",
    summary="A webhook",
    response_class=Response,
    responses={**json_answer(ref(WebhookAnswer), "How it stands", example=_EXAMPLE), **problems(400, 404)},
)
async def webhook(webhook_id: WebhookId, webhooks: Hooks) -> Response:
    return _json(webhook_answer(webhooks.get(webhook_id)))


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Send a receiver nothing any more",
    description="Its secret and what is parked of it are forgotten.",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "It is gone"), **problems(400, 404)},
)
async def remove_webhook(webhook_id: WebhookId, webhooks: Hooks) -> Response:
    await webhooks.remove(webhook_id)
    return Response(status_code=204)


@router.post(
    "/webhooks/{webhook_id}/enable",
    summary="Send to a disabled webhook again",
    description="It goes on where it was: what happened meanwhile is sent, too.",
    response_class=Response,
    responses={**json_answer(ref(WebhookAnswer), "How it stands", example=_EXAMPLE), **problems(400, 404)},
)
async def enable_webhook(webhook_id: WebhookId, webhooks: Hooks) -> Response:
    return _json(webhook_answer(await webhooks.enable(webhook_id)))


@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Send a webhook a message of its own, once",
    description="Signed like all others, its type is `WebhookTest`. It is sent to disabled webhooks, too.",
    response_class=Response,
    responses={**json_answer(ref(WebhookTestAnswer), "What came of it"), **problems(400, 404, 409)},
)
async def try_webhook(webhook_id: WebhookId, webhooks: Hooks) -> Response:
    return _json(trial_answer(await webhooks.test(webhook_id)))


@router.get(
    "/webhooks/{webhook_id}/parked",
    summary="Deliveries that were given up",
    response_class=Response,
    responses={
        **json_answer(
            list_of(ParkedAnswer),
            "The first coming first",
            headers={"Link": '`rel="next"`: the next page, where there is one'},
        ),
        **problems(400, 404),
    },
)
async def parked(webhook_id: WebhookId, webhooks: Hooks, limit: Limit = 100, offset: Offset = 0) -> Response:
    found = webhooks.parked(webhook_id)
    page = [parked_answer(one) for one in found[offset : offset + limit]]
    answer = _json(page)
    if offset + limit < len(found):
        following = f"/webhooks/{webhook_id}/parked?limit={limit}&offset={offset + limit}"
        answer.headers["Link"] = f'<{following}>; rel="next"'
    return answer


@router.delete(
    "/webhooks/{webhook_id}/parked",
    summary="Forget deliveries that were given up",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "They are forgotten"), **problems(400, 404, 413)},
    openapi_extra=_IDS,
)
async def dismiss(request: Request, webhook_id: WebhookId, services: Services, webhooks: Hooks) -> Response:
    await webhooks.dismiss(webhook_id, await _message_ids(request, services))
    return Response(status_code=204)


@router.post(
    "/webhooks/{webhook_id}/replay",
    summary="Try deliveries again that were given up",
    description=(
        "In the background, and in no order with others; what fails for ten minutes is parked again. 409 while the"
        " webhook is disabled."
    ),
    response_class=Response,
    status_code=202,
    responses={
        **json_answer(ref(ReplayAnswer), "They are tried", status=202, headers={"Location": "Where to look"}),
        **problems(400, 404, 409, 413),
    },
    openapi_extra=_IDS,
)
async def replay(request: Request, webhook_id: WebhookId, services: Services, webhooks: Hooks) -> Response:
    count = await webhooks.replay(webhook_id, await _message_ids(request, services))
    headers = {"Location": f"/webhooks/{webhook_id}/parked"}
    text = msgspec.json.encode(ReplayAnswer(replaying=count))
    return Response(text, 202, headers=headers, media_type="application/json")


async def _message_ids(request: Request, services: ApiServices) -> object:
    """None where there is no body."""
    if not declared_bytes(request) and "transfer-encoding" not in request.headers:
        return None
    body = await json_object(request, services)
    _refuse_unknown(body, "message_ids")
    return body.get("message_ids")


def _refuse_unknown(body: dict[str, Any], *known: str) -> None:
    unknown = sorted(body.keys() - set(known))
    if unknown:
        name = unknown[0][:100]
        raise InvalidRequestError(f"{name!r} is no part of it; it takes {', '.join(known)}", field=name)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
