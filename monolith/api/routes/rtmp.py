"""Endpoints for those who publish by RTMP."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import RtmpEndpointAnswer, submitted_answer
from monolith.api.openapi import json_answer, problems, ref
from monolith.api.problems import ApiError
from monolith.api.requests import BaseUrl, IdempotencyKey, Services, is_repeat, json_object, require_room
from monolith.api.routes.submissions import OPTIONS
from monolith.api.services import ApiServices

router = APIRouter(tags=["publish"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["modelsToRun"], "properties": OPTIONS},
                "example": examples.RTMP_ENDPOINT_BODY,
            }
        },
    }
}
_MADE: Final = json_answer(
    ref(RtmpEndpointAnswer),
    "Waits for its publisher",
    status=201,
    example=examples.RTMP_ENDPOINT,
    headers={
        "Location": "Where the video is from now on",
        "Idempotent-Replayed": "`true` when this is the first answer again",
    },
)


@router.post(
    "/analysis/rtmp-endpoint",
    summary="Analyse what will be published by RTMP",
    description=(
        "Give `rtmp_endpoint` to the publisher: OBS, FFmpeg, GStreamer, an encoder. H.264, and by enhanced RTMP HEVC,"
        " AV1 and VP9; sound is ignored. The video is Pending until it comes. Where its connection breaks it may come"
        " again with the same key; when it ends the publish in order, the analysis ends, too. 503 while RTMP is not"
        " taken in."
    ),
    response_class=Response,
    status_code=201,
    responses={**_MADE, **problems(400, 403, 409, 413, 507)},
    openapi_extra=_BODY,
)
async def make_rtmp_endpoint(
    request: Request, services: Services, base: BaseUrl, idempotency_key: IdempotencyKey = None
) -> Response:
    body = await json_object(request, services)
    port = _port(services)
    if not await is_repeat(services, idempotency_key):
        await require_room(services)
    made = await services.pushed.create(
        "rtmp",
        models=body.get("modelsToRun"),
        frame_step=body.get("frameStep"),
        video_name=body.get("videoName"),
        idempotency_key=idempotency_key,
    )
    answer = submitted_answer(made.submitted, base)
    headers = {"Location": answer.status_url, "Cache-Control": "no-store"}
    if made.submitted.repeated:
        headers["Idempotent-Replayed"] = "true"
    full = RtmpEndpointAnswer(
        **msgspec.structs.asdict(answer), rtmp_endpoint=f"rtmp://{_host(base)}:{port}/live/{made.secret}"
    )
    return Response(msgspec.json.encode(full), 201, headers=headers, media_type="application/json")


def _port(services: ApiServices) -> int:
    """Raises ApiError."""
    if services.rtmp is None:
        raise ApiError(503, "RTMP is not taken in here: set VIDEO_ANALYSIS_RTMP=true")
    if not services.rtmp.port:
        raise ApiError(503, services.rtmp.problem, headers={"Retry-After": "5"})
    return services.rtmp.port


def _host(base: str) -> str:
    """Of the address by which users reach the program."""
    host = urlsplit(base).hostname or "localhost"
    return f"[{host}]" if ":" in host else host
