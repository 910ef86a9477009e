"""Publishing by WebRTC (WHIP, RFC 9725): the endpoint of a video, and the session of its publisher.

The bearer token of the endpoint is the only way in, with or without API keys.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from monolith.access.refusals import Refusals
from monolith.api import examples
from monolith.api.answers import WebRtcEndpointAnswer
from monolith.api.auth import address_of
from monolith.api.openapi import empty_answer, problems
from monolith.api.problems import ApiError, too_busy, too_often
from monolith.api.push_endpoints import body_of, create_endpoint, endpoint_response, made
from monolith.api.requests import (
    BaseUrl,
    IdempotencyKey,
    Services,
    VideoId,
    json_object,
)
from monolith.api.sdp_bodies import (
    ANSWERED,
    FRAGMENT,
    FRAGMENT_BODY,
    OFFER_BODY,
    SDP,
    endpoint_takes,
    read_body,
    read_fragment,
    refusing_malformed,
    require_accepted,
    require_type,
    session_response,
    session_takes,
)
from monolith.api.services import ApiServices
from monolith.application.push_sources import UnknownSecretError, VideoOverError
from monolith.live.feeds import FeedBusyError
from monolith.live.webrtc.publishers import TooManyPublishersError, WebRtcPublishers
from monolith.live.webrtc.publishing import PublisherConnection
from monolith.live.webrtc.sdp import OFFER_BYTES, NoCommonCodecError

router = APIRouter(tags=["publish"])


def _publishers(services: Services) -> WebRtcPublishers:
    if services.webrtc is None:
        raise ApiError(503, "this server takes no WebRTC publishers")
    return services.webrtc


Publishers = Annotated[WebRtcPublishers, Depends(_publishers)]
SessionId = Annotated[str, Path(description="As the answer's `Location` says")]


@router.post(
    "/analysis/webrtc-endpoint",
    summary="Analyse what will be published by WebRTC (WHIP)",
    description=(
        "Give `whip_endpoint` and `token` to the publisher: a browser's camera, OBS, GStreamer, FFmpeg. The video is"
        " Pending until it comes. The token is told here only."
    ),
    response_class=Response,
    status_code=201,
    responses={**made(WebRtcEndpointAnswer, examples.WEBRTC_ENDPOINT), **problems(400, 403, 409, 413, 507)},
    openapi_extra=body_of(examples.WEBRTC_ENDPOINT_BODY),
)
async def make_endpoint(
    request: Request, services: Services, base: BaseUrl, idempotency_key: IdempotencyKey = None
) -> Response:
    body = await json_object(request, services)
    endpoint = await create_endpoint(services, "webrtc", body, idempotency_key)
    url = f"{base}/whip/{endpoint.video_id}"
    return endpoint_response(endpoint, base, WebRtcEndpointAnswer, whip_endpoint=url, token=endpoint.secret)


@router.post(
    "/whip/{video_id}",
    summary="Publish: an SDP offer, answered",
    description="WHIP (RFC 9725). `Authorization: Bearer` with the token of the endpoint. VP8 or H.264.",
    response_class=Response,
    status_code=201,
    responses={**ANSWERED, **problems(400, 401, 403, 406, 409, 410, 413, 415, 422)},
    openapi_extra=OFFER_BODY,
)
async def publish(
    request: Request, video_id: VideoId, services: Services, publishers: Publishers, base: BaseUrl
) -> Response:
    await _authorize(request, services, video_id)
    require_type(request, SDP)
    require_accepted(request)
    offer = await read_body(request, OFFER_BYTES)
    connection, answer = await _begin(publishers, video_id, offer)
    location = f"{base}/whip/{video_id}/{connection.session_id}"
    return session_response(answer, location, connection.entity_tag, publishers.options.ice.links())


@router.options(
    "/whip/{video_id}",
    summary="What the endpoint takes, and its ICE servers",
    response_class=Response,
    responses={**empty_answer(200, "In its headers"), **problems(400)},
)
async def endpoint_options(video_id: VideoId, publishers: Publishers) -> Response:
    return endpoint_takes(publishers.options.ice.links())


@router.patch(
    "/whip/{video_id}/{session_id}",
    summary="More ICE candidates of the publisher",
    description=(
        "Trickle ICE (RFC 8840), with the session's ETag in `If-Match`. An ICE restart (`If-Match: *`) is not"
        " supported: publish again."
    ),
    response_class=Response,
    status_code=204,
    responses={
        **empty_answer(204, "Taken"),
        **problems(400, 401, 403, 404, 410, 412, 413, 415, 422, 428),
    },
    openapi_extra=FRAGMENT_BODY,
)
async def trickle(
    request: Request, video_id: VideoId, session_id: SessionId, services: Services, publishers: Publishers
) -> Response:
    await _authorize(request, services, video_id)
    require_type(request, FRAGMENT)
    connection = _session(publishers, video_id, session_id)
    await connection.trickle(await read_fragment(request, connection.entity_tag))
    return Response(status_code=204)


@router.delete(
    "/whip/{video_id}/{session_id}",
    summary="End publishing, in order: the video is then complete",
    response_class=Response,
    responses={**empty_answer(200, "Ended"), **problems(400, 401, 403, 404, 410)},
)
async def end(
    request: Request, video_id: VideoId, session_id: SessionId, services: Services, publishers: Publishers
) -> Response:
    await _authorize(request, services, video_id)
    _session(publishers, video_id, session_id).end()
    return Response(status_code=200)


@router.options(
    "/whip/{video_id}/{session_id}",
    summary="What the session takes",
    response_class=Response,
    responses={**empty_answer(200, "In its headers"), **problems(400)},
)
async def session_options(video_id: VideoId, session_id: SessionId) -> Response:
    return session_takes("DELETE, OPTIONS, PATCH")


async def _begin(
    publishers: WebRtcPublishers, video_id: str, offer: bytes
) -> tuple[PublisherConnection, str]:
    try:
        with refusing_malformed():
            return await publishers.begin(video_id, offer)
    except NoCommonCodecError as error:
        raise ApiError(422, str(error), kind="nothing-to-publish") from error
    except FeedBusyError as error:
        raise ApiError(409, str(error), kind="busy") from error
    except TooManyPublishersError as error:
        raise too_busy(str(error)) from error


async def _authorize(request: Request, services: ApiServices, video_id: str) -> None:
    """Raises ApiError: 401 without the token, 403 with that of another video, 410 when it is over, 429."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        _refusals(request).count("no token")
        raise _unauthorized("the endpoint's token is needed: send it as `Authorization: Bearer TOKEN`")
    try:
        allowed = await services.pushed.authorize("webrtc", token.strip())
    except UnknownSecretError as error:
        _count_wrong(request)
        raise _unauthorized(str(error), error="invalid_token") from error
    except VideoOverError as error:
        raise ApiError(410, str(error), kind="video-over") from error
    if allowed != video_id:
        _count_wrong(request)
        raise ApiError(403, "the token is that of another endpoint", kind="wrong-endpoint")


def _count_wrong(request: Request) -> None:
    """As wrong API keys are counted. Raises ApiError where its address shows too many."""
    address = address_of(request.scope)
    if wait := _refusals(request).wrong("wrong token", address):
        raise too_often(wait, "too many wrong tokens came from your address")


def _refusals(request: Request) -> Refusals:
    refusals: Refusals = request.app.state.refusals
    return refusals


def _unauthorized(detail: str, *, error: str = "") -> ApiError:
    challenge = 'Bearer realm="whip"' + (f', error="{error}"' if error else "")
    return ApiError(401, detail, kind="unauthorized", headers={"WWW-Authenticate": challenge})


def _session(publishers: WebRtcPublishers, video_id: str, session_id: str) -> PublisherConnection:
    connection = publishers.find(video_id, session_id)
    if connection is None:
        raise ApiError(404, "there is no such session: it has ended", kind="session-not-found")
    return connection
