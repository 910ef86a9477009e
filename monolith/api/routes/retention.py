"""Letting go of what is old."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from monolith.api.openapi import json_answer, problems, ref
from monolith.api.problems import ApiError
from monolith.api.requests import Services, json_object
from monolith.api.retention_answer import (
    RetentionAnswer,
    RetentionStateAnswer,
    retention_answer,
    schedule_answer,
)
from monolith.api.services import ApiServices
from monolith.application.retention import Retention
from monolith.application.retention_report import MAX_DAYS, MAX_KEPT, RetentionRequest
from monolith.domain.errors import InvalidRequestError

router = APIRouter(tags=["operation"])

_WAIT_SECONDS: Final = 2.0
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["days"],
                    "properties": {
                        "days": {
                            "type": "number",
                            "minimum": 0,
                            "maximum": MAX_DAYS,
                            "description": "Segments in which nothing happened for so long go; fractions are right",
                        },
                        "dry_run": {
                            "type": "boolean",
                            "default": False,
                            "description": "Only say what would go",
                        },
                        "keep": {
                            "type": "array",
                            "items": {"type": "string", "format": "uuid"},
                            "maxItems": MAX_KEPT,
                            "default": [],
                            "description": "Videos of which nothing goes",
                        },
                    },
                },
                "example": {"days": 30, "dry_run": True, "keep": []},
            }
        },
    }
}


@router.post(
    "/retention",
    summary="Let go of frames, results and files older than a number of days",
    description=(
        "Whole segments go, also of videos whose analysis was interrupted; what an unfinished analysis still needs "
        "stays, and so do the sums. The answer is the report when it ends within two seconds (200), else how far it is "
        "(202): `GET /retention` tells the rest. 409 while one runs."
    ),
    response_class=Response,
    responses={
        **json_answer(ref(RetentionAnswer), "The report"),
        **json_answer(ref(RetentionAnswer), "It goes on", status=202, headers={"Location": "Where to look"}),
        **problems(400, 409, 413, 507),
    },
    openapi_extra=_BODY,
)
async def start_retention(request: Request, services: Services) -> Response:
    retention = _retention(services)
    report = await retention.start(_request_of(await json_object(request, services)))
    await retention.wait(_WAIT_SECONDS)
    if report.state == "failed":
        raise await _failure(services, report.error or "it failed")
    text = msgspec.json.encode(retention_answer(report))
    if report.state == "done":
        return Response(text, media_type="application/json")
    return Response(text, 202, headers={"Location": "/retention"}, media_type="application/json")


@router.get(
    "/retention",
    summary="How far a retention is, what the last one did, when the next one comes",
    response_class=Response,
    responses={**json_answer(ref(RetentionStateAnswer), "The one that runs, or the last one"), **problems()},
)
async def retention(services: Services) -> Response:
    found, schedule = _retention(services), services.retention_schedule
    answer = RetentionStateAnswer(
        running=found.running,
        last=retention_answer(found.report) if found.report else None,
        schedule=schedule_answer(schedule) if schedule else None,
    )
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _failure(services: ApiServices, error: str) -> ApiError:
    """Letting go of something is written down first: on a disk without any room that fails, and nobody is at fault."""
    reason = await services.no_room()
    if reason is not None:
        return ApiError(507, f"{error}; {reason}", kind="no-room", headers={"Retry-After": "60"})
    return ApiError(500, error, kind="retention-failed")


def _retention(services: ApiServices) -> Retention:
    if services.retention is None:
        raise ApiError(503, "this server was started without retention")
    return services.retention


def _request_of(body: dict[str, Any]) -> RetentionRequest:
    unknown = sorted(body.keys() - {"days", "dry_run", "keep"})
    if unknown:
        raise InvalidRequestError(
            f"{unknown[0][:100]!r} is no part of it; it takes days, dry_run and keep", field=unknown[0][:100]
        )
    days, dry_run, keep = body.get("days"), body.get("dry_run", False), body.get("keep", [])
    if isinstance(days, bool) or not isinstance(days, int | float):
        raise InvalidRequestError(f"days must be a number from 0 to {MAX_DAYS:g}, such as 30", field="days")
    if not isinstance(dry_run, bool):
        raise InvalidRequestError("dry_run must be true or false", field="dry_run")
    if not isinstance(keep, list) or not all(isinstance(one, str) for one in keep):
        raise InvalidRequestError("keep must be a list of video ids", field="keep")
    return RetentionRequest(days=days, dry_run=dry_run, keep=frozenset(one.lower() for one in keep))
