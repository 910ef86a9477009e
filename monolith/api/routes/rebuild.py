"""Building what answers are made from again, from all events, while the program runs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from monolith.api.openapi import json_answer, problems, ref
from monolith.api.rebuild_answer import RebuildAnswer, rebuild_answer
from monolith.api.requests import Services
from monolith.api.services import ApiServices

router = APIRouter(tags=["operation"])

_MOST_NAMES: Final = 20

Projections = Annotated[
    list[str] | None,
    Query(
        alias="projection",
        max_length=_MOST_NAMES,
        description="Only these, by the names that `GET /rebuild` gives as `rebuildable`; otherwise all",
    ),
]


@router.post(
    "/rebuild",
    summary="Build again, from all events, what answers are made from",
    description=(
        "It is done in the background; answers go on from what is there until it is complete. 409 while one runs."
    ),
    response_class=Response,
    responses={**json_answer(ref(RebuildAnswer), "It has begun", status=202), **problems(400, 409)},
)
async def start_rebuild(services: Services, projection: Projections = None) -> Response:
    services.rebuilds.start(projection or ())
    return _answer(services, 202)


@router.get(
    "/rebuild",
    summary="How far a rebuild is",
    response_class=Response,
    responses={**json_answer(ref(RebuildAnswer), "The one that runs, or the last one"), **problems()},
)
async def rebuild(services: Services) -> Response:
    return _answer(services, 200)


def _answer(services: ApiServices, status: int) -> Response:
    answer = rebuild_answer(services.rebuilds.status, services.rebuilds.names)
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
