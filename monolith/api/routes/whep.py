"""Watching live video by WebRTC (WHEP): the endpoint of a video, and the session of a viewer.

Who may read the video's results may watch it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from monolith.access.key_ring import Identity
from monolith.access.keys import CredentialError
from monolith.access.rates import client_of
from monolith.api import examples
from monolith.api.auth import CALLER, address_of
from monolith.api.openapi import empty_answer, json_answer, problems, ref
from monolith.api.problems import ApiError, too_busy, too_often
from monolith.api.requests import BaseUrl, Services, VideoId
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
from monolith.api.sse import event_stream_response
from monolith.api.viewer_answers import ViewerAnswer, ViewerFeed, viewer_answer
from monolith.live.playback.session import Client, Session
from monolith.live.playback.sessions import (
    NoSessionError,
    NotLiveError,
    TooManyViewersError,
    TooOftenError,
    Viewers,
)
from monolith.live.webrtc.sdp import OFFER_BYTES, NoCommonCodecError

router = APIRouter(tags=["watch"])


def _viewers(services: Services) -> Viewers:
    if services.viewers is None:
        raise ApiError(503, "this server plays no live video", kind="unavailable")
    return services.viewers


PlaybackOf = Annotated[Viewers, Depends(_viewers)]
SessionId = Annotated[str, Path(description="As the answer's `Location` says")]
Overlay = Annotated[
    Literal["none", "burned"],
    Query(description="`burned`: boxes are drawn into the pictures, which come later by the player delay"),
]


@router.post(
    "/whep/{video_id}",
    summary="Watch a live video: an SDP offer, answered",
    description=(
        "WHEP. H.264 or VP8, no sound. A data channel named `results`, if the offer opens one, carries what the models"
        " find: a JSON object a message, with the `rtp_timestamp` of the picture that it was found in."
    ),
    response_class=Response,
    status_code=201,
    responses={**ANSWERED, **problems(400, 404, 406, 413, 415, 422)},
    openapi_extra=OFFER_BODY,
)
async def watch(
    request: Request,
    video_id: VideoId,
    services: Services,
    viewers: PlaybackOf,
    base: BaseUrl,
    overlay: Overlay = "none",
) -> Response:
    require_type(request, SDP)
    require_accepted(request)
    await services.read_models.video(video_id)
    offer = await read_body(request, OFFER_BYTES)
    client = _client(request, services)
    session, answer = await _open(viewers, video_id, offer, overlay=overlay == "burned", client=client)
    location = f"{base}/whep/{video_id}/{session.session_id}"
    response = session_response(answer, location, session.entity_tag, viewers.ice.links())
    response.headers["Accept-Patch"] = FRAGMENT
    return response


@router.patch(
    "/whep/{video_id}/{session_id}",
    summary="More ICE candidates of the viewer",
    description="Trickle ICE (RFC 8840), with the session's ETag in `If-Match`.",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "Taken"), **problems(400, 403, 404, 412, 413, 415, 422, 428)},
    openapi_extra=FRAGMENT_BODY,
)
async def trickle(
    request: Request, video_id: VideoId, session_id: SessionId, viewers: PlaybackOf
) -> Response:
    require_type(request, FRAGMENT)
    session = _own_session(request, viewers, video_id, session_id)
    await session.trickle(await read_fragment(request, session.entity_tag))
    return Response(status_code=204)


@router.get(
    "/whep/{video_id}/{session_id}",
    summary="How a viewer is: what was sent, and the clocks of its pictures",
    description=(
        "`clock` maps times of the video to RTP times of this very viewer's track, as `requestVideoFrameCallback`"
        " tells them: a picture at t seconds has `rtp_timestamp` + (t - `video_timestamp`) × `clock_rate`, modulo 2³²,"
        " as long as the publisher's connection lasts."
    ),
    response_class=Response,
    responses={
        **json_answer(ref(ViewerAnswer), "Now", example=examples.VIEWER),
        **problems(400, 404),
    },
)
async def viewer(video_id: VideoId, session_id: SessionId, viewers: PlaybackOf) -> Response:
    answer = viewer_answer(_session(viewers, video_id, session_id))
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get(
    "/whep/{video_id}/{session_id}/results",
    summary="What the models find in the pictures of a viewer, as server-sent events",
    description=(
        "The messages of the data channel once more, for a page without one: a ViewerHello, then ViewerResults for each"
        " frame and model, with the `rtp_timestamp` of the picture in this very viewer's track. Results of before are"
        " not told again; the stream ends with the session."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "`event` is the message's `type`, `data` the message",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": examples.VIEWER_RESULTS}
            },
        },
        **problems(400, 404),
    },
)
async def results(
    request: Request, video_id: VideoId, session_id: SessionId, services: Services, viewers: PlaybackOf
) -> Response:
    feed = ViewerFeed(
        _session(viewers, video_id, session_id),
        stopping=services.stopping,
        heartbeat_seconds=services.limits.heartbeat_seconds,
    )
    return event_stream_response(request, services, feed.pieces())


@router.delete(
    "/whep/{video_id}/{session_id}",
    summary="Watch no more",
    response_class=Response,
    responses={**empty_answer(200, "Ended"), **problems(400, 403, 404)},
)
async def end(request: Request, video_id: VideoId, session_id: SessionId, viewers: PlaybackOf) -> Response:
    await viewers.close(_own_session(request, viewers, video_id, session_id))
    return Response(status_code=200)


@router.options(
    "/whep/{video_id}",
    summary="What the endpoint takes, and its ICE servers",
    response_class=Response,
    responses={**empty_answer(200, "In its headers"), **problems(400)},
)
async def endpoint_options(video_id: VideoId, viewers: PlaybackOf) -> Response:
    return endpoint_takes(viewers.ice.links())


@router.options(
    "/whep/{video_id}/{session_id}",
    summary="What the session takes",
    response_class=Response,
    responses={**empty_answer(200, "In its headers"), **problems(400)},
)
async def session_options(video_id: VideoId, session_id: SessionId) -> Response:
    return session_takes("DELETE, GET, OPTIONS, PATCH")


def _client(request: Request, services: Services) -> Client:
    caller: Identity | None = request.scope[CALLER]
    address = client_of(address_of(request.scope))
    return Client(address, None if caller is None else caller.key_id, _still_allowed(caller, services))


def _still_allowed(caller: Identity | None, services: Services) -> Callable[[], bool]:
    """Whether the key that lets the viewer in is still good."""

    def allowed() -> bool:
        try:
            services.access.check_still(caller)
        except CredentialError:
            return False
        return True

    return allowed


async def _open(
    viewers: Viewers, video_id: str, offer: bytes, *, overlay: bool, client: Client
) -> tuple[Session, str]:
    try:
        with refusing_malformed():
            return await viewers.open(video_id, offer, overlay=overlay, client=client)
    except NotLiveError as error:
        raise ApiError(404, str(error), kind="not-live") from error
    except NoCommonCodecError as error:
        raise ApiError(422, str(error), kind="no-common-codec") from error
    except TooManyViewersError as error:
        raise too_busy(str(error)) from error
    except TooOftenError as error:
        raise too_often(error.seconds, str(error)) from error


def _session(viewers: Viewers, video_id: str, session_id: str) -> Session:
    try:
        return viewers.session(video_id, session_id)
    except NoSessionError as error:
        raise ApiError(404, str(error), kind="session-not-found") from error


def _own_session(request: Request, viewers: Viewers, video_id: str, session_id: str) -> Session:
    """One that the caller may change: with the API key that it was made with, where there was one."""
    session, caller = _session(viewers, video_id, session_id), request.scope[CALLER]
    if session.client.key_id is not None and (caller is None or caller.key_id != session.client.key_id):
        raise ApiError(403, "the session was made with another API key", kind="other-key")
    return session
