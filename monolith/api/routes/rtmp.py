"""Endpoints for those who publish by RTMP."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import RtmpEndpointAnswer
from monolith.api.openapi import problems
from monolith.api.problems import ApiError
from monolith.api.push_endpoints import body_of, create_endpoint, endpoint_response, made
from monolith.api.requests import BaseUrl, IdempotencyKey, Services, json_object
from monolith.api.services import ApiServices, RtmpEntrance

router = APIRouter(tags=["publish"])


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
    responses={**made(RtmpEndpointAnswer, examples.RTMP_ENDPOINT), **problems(400, 403, 409, 413, 507)},
    openapi_extra=body_of(examples.RTMP_ENDPOINT_BODY),
)
async def make_rtmp_endpoint(
    request: Request, services: Services, base: BaseUrl, idempotency_key: IdempotencyKey = None
) -> Response:
    body = await json_object(request, services)
    entrance = _entrance(services)
    endpoint = await create_endpoint(services, "rtmp", body, idempotency_key)
    public = entrance.public_url or f"rtmp://{_host(base)}:{entrance.port}"
    url = f"{public}/live/{endpoint.secret}"
    return endpoint_response(endpoint, base, RtmpEndpointAnswer, rtmp_endpoint=url)


def _entrance(services: ApiServices) -> RtmpEntrance:
    """One that listens. Raises ApiError."""
    if services.rtmp is None:
        raise ApiError(503, "RTMP is not taken in here: set VIDEO_ANALYSIS_RTMP=true")
    if not services.rtmp.port:
        raise ApiError(503, services.rtmp.problem, headers={"Retry-After": "5"})
    return services.rtmp


def _host(base: str) -> str:
    """Of the address by which users reach the program."""
    host = urlsplit(base).hostname or "localhost"
    return f"[{host}]" if ":" in host else host
