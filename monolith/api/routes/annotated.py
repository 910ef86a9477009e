"""Annotated videos: asked for, watched, fetched, cancelled."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import AnnotatedAnswer
from monolith.api.file_names import file_name
from monolith.api.files import FileAnswer
from monolith.api.filters import Confidence, Models, Seconds
from monolith.api.openapi import empty_answer, json_answer, problems, ref
from monolith.api.problems import RETRY_AFTER, ApiError
from monolith.api.requests import BaseUrl, RunId, Services, VideoId, check_model_names, check_run_id
from monolith.api.services import ApiServices
from monolith.domain.errors import NotPossibleError
from monolith.exports.annotated import AnnotatedState, AnnotatedVideos
from monolith.exports.errors import AnnotatedError, NothingToShowError, TooManyError
from monolith.exports.files import ReadyFile
from monolith.exports.options import AnnotatedOptions

router = APIRouter(tags=["annotated video"])

_JSON: Final = "application/json"
_MP4: Final = "video/mp4"
_RETRY_AFTER: Final = {"Retry-After": "2"}
_PLACE: Final = "/analysis/{video_id}/annotated"

Speed = Annotated[float, Query(ge=0.01, le=100, description="So many times as fast")]
Fps = Annotated[
    float | None,
    Query(
        ge=0.01,
        le=240,
        description="Frames a second, each for the same time; otherwise they keep their times",
    ),
]
Version = Annotated[
    str | None,
    Query(pattern="^[0-9a-f]{16}$", description="As in `url`: the same file, though there be a newer one"),
]


def _options(
    model: Models = None,
    run: RunId = None,
    min_confidence: Confidence = None,
    from_time: Seconds = None,
    to_time: Seconds = None,
    speed: Speed = 1.0,
    fps: Fps = None,
) -> AnnotatedOptions:
    """Raises InvalidRequestError."""
    return AnnotatedOptions(
        models=tuple(check_model_names(model or [])),
        run_id=check_run_id(run),
        min_confidence=min_confidence,
        from_time=from_time,
        to_time=to_time,
        speed=speed,
        fps=fps,
    )


Options = Annotated[AnnotatedOptions, Depends(_options)]


def _videos(services: Services) -> AnnotatedVideos:
    if services.annotated is None:
        raise ApiError(503, "this program makes no annotated videos", kind="unavailable")
    return services.annotated


Videos = Annotated[AnnotatedVideos, Depends(_videos)]

_STATES: Final[dict[int | str, dict[str, Any]]] = {
    **json_answer(ref(AnnotatedAnswer), "It is ready, or failed", example=examples.ANNOTATED),
    **json_answer(
        ref(AnnotatedAnswer),
        "It waits or is being made; ask again",
        status=202,
        headers={"Retry-After": "Seconds until it is worth asking again"},
    ),
}


@router.post(
    _PLACE,
    summary="Have the annotated video made, or find it",
    description=(
        "An MP4 of the analysed frames with boxes, labels and colours drawn in. The same options name the same file:"
        " give them to the other calls, too. While the analysis goes on it shows what there is so far"
        " (`complete: false`) and is made anew when asked for later."
    ),
    response_class=Response,
    responses={**_STATES, **problems(400, 404, 409, 410, 429)},
)
async def ask(
    request: Request, video_id: VideoId, options: Options, videos: Videos, base: BaseUrl
) -> Response:
    try:
        state = await videos.ask(video_id, options)
    except AnnotatedError as error:
        raise _problem(error) from error
    return _answer(request, video_id, state, base)


@router.get(
    _PLACE,
    summary="How it is with the annotated video",
    response_class=Response,
    responses={**_STATES, **problems(400, 404)},
)
async def state(
    request: Request, video_id: VideoId, options: Options, videos: Videos, base: BaseUrl
) -> Response:
    found = await videos.state(video_id, options)
    if found is None:
        raise ApiError(
            404,
            "no such annotated video was asked for, or there is more to show by now; POST to this address has it made",
            kind="annotated-video-not-found",
        )
    return _answer(request, video_id, found, base)


@router.delete(
    _PLACE,
    summary="Cancel the making of the annotated video, or remove it",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "There is none any more"), **problems(400, 404)},
)
async def cancel(video_id: VideoId, options: Options, videos: Videos, services: Services) -> Response:
    await services.read_models.video(video_id)
    await videos.cancel(video_id, options)
    return Response(status_code=204)


@router.get(
    f"{_PLACE}.mp4",
    summary="The annotated video; what is not there is made",
    description=(
        "Also for keys that only read: it changes nothing that is recorded. So many are made at once, and so many wait;"
        " then 429."
    ),
    response_class=Response,
    responses={
        200: {
            "description": "The file; `Range` works",
            "content": {_MP4: {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {
            "description": "The part that `Range` names",
            "content": {_MP4: {"schema": {"type": "string", "format": "binary"}}},
        },
        202: _STATES[202],
        304: {"description": "As `If-None-Match` says"},
        **problems(400, 404, 409, 410, 416, 429),
    },
)
async def video(
    request: Request,
    video_id: VideoId,
    options: Options,
    videos: Videos,
    services: Services,
    base: BaseUrl,
    version: Version = None,
) -> Response:
    try:
        found = await videos.fetch(video_id, options, version)
    except AnnotatedError as error:
        raise _problem(error) from error
    if found.status == "failed":
        raise ApiError(409, f"{found.error}; POST …/annotated tries again", kind="annotated-video-failed")
    if found.file is not None:
        return await _file(services, video_id, found.file)
    return _answer(request, video_id, found, base)


async def _file(services: ApiServices, video_id: str, file: ReadyFile) -> Response:
    name = (await services.read_models.video(video_id)).video_name
    try:
        stat = await asyncio.to_thread(file.path.stat)
    except FileNotFoundError as error:
        raise ApiError(
            503, "the file was removed this moment; ask again", kind="unavailable", headers=RETRY_AFTER
        ) from error
    return FileAnswer(
        file.path,
        stat,
        etag=f"{file.made.options}-{file.made.version}-{file.made.made_at:.6f}",
        media_type=_MP4,
        name=file_name(name, "-annotated.mp4"),
        send_seconds=services.limits.send_seconds,
        headers={"Cache-Control": "private, no-cache"},
    )


def _answer(request: Request, video_id: str, state: AnnotatedState, base: str) -> Response:
    made = state.file.made if state.file is not None else None
    answer = AnnotatedAnswer(
        video_id=video_id,
        status=state.status,
        progress=round(state.fraction, 4),
        frames=state.frames,
        url=None if state.file is None else _url(request, video_id, state.file, base),
        error=state.error,
        complete=made.complete if made else None,
        start_time=made.start_time if made else None,
        duration=made.duration if made else None,
        size_bytes=made.size_bytes if made else None,
        codec=made.codec if made else None,
    )
    waits = state.status in ("queued", "running")
    return Response(
        msgspec.json.encode(answer),
        202 if waits else 200,
        headers=_RETRY_AFTER if waits else None,
        media_type=_JSON,
    )


def _url(request: Request, video_id: str, file: ReadyFile, base: str) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "version"]
    path = f"{base}/analysis/{quote(video_id)}/annotated.mp4"
    return f"{path}?{urlencode([*query, ('version', file.made.version)])}"


def _problem(error: AnnotatedError) -> Exception:
    """What the user is told when nothing can be begun."""
    if isinstance(error, TooManyError):
        return ApiError(429, str(error), kind="too-many-annotated-videos", headers={"Retry-After": "30"})
    if isinstance(error, NothingToShowError) and error.was_there:
        return ApiError(410, str(error), kind="frames-expired")
    return NotPossibleError(str(error))
