"""Taking videos in, ending their analysis, removing them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, NoReturn

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import SubmittedAnswer, VideoAnswer, submitted_answer, video_answer
from monolith.api.openapi import empty_answer, json_answer, problems, ref
from monolith.api.problems import ApiError, too_busy
from monolith.api.requests import (
    BaseUrl,
    IdempotencyKey,
    Services,
    VideoId,
    body_chunks,
    declared_bytes,
    drain,
    is_repeat,
    json_object,
    require_room,
)
from monolith.api.services import ApiServices, SubmittedVideo
from monolith.api.streaming import Turns
from monolith.api.upload import UploadForm, no_room, receive_upload
from monolith.application.handlers import SubmissionUnknownError
from monolith.domain.models import MODEL_KEYS

router = APIRouter(tags=["submit"])

OPTIONS: Final[dict[str, Any]] = {
    "modelsToRun": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(MODEL_KEYS)}},
    "videoName": {
        "type": ["string", "null"],
        "maxLength": 500,
        "description": "Printable text; otherwise the name of the file",
    },
    "frameStep": {
        "description": 'Frame n is analysed where n % frameStep == 0. Missing, null or "" means 1.',
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
            {"type": "string", "pattern": "^ *[0-9]* *$"},
            {"type": "null"},
        ],
        "default": 1,
    },
}
"""Properties of every submission\'s body that is JSON, as in OpenAPI."""
_START: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["videoURL", "modelsToRun"],
                    "properties": {
                        "videoURL": {
                            "type": "string",
                            "description": (
                                "http or https, with a host and a path: a video file, or an HLS playlist; or"
                                " rtsp or rtsps, with a host: a camera"
                            ),
                            "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://[^/]+/.|[Rr][Tt][Ss][Pp][Ss]?://[^/]+)",
                        },
                        **OPTIONS,
                    },
                },
                "example": examples.START_BODY,
            }
        },
    }
}
_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "modelsToRun"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "minLength": 1},
                        "modelsToRun": {
                            "type": "string",
                            "description": "Names joined by commas, a JSON list, or one part for each name",
                            "example": ",".join(MODEL_KEYS),
                        },
                        "videoName": {"type": "string", "maxLength": 500},
                        "frameStep": {"type": "string", "pattern": "^ *[0-9]* *$", "default": "1"},
                    },
                }
            }
        },
    }
}
SUBMITTED_HEADERS: Final = {
    "Location": "Where the video is from now on",
    "Idempotent-Replayed": "`true` when this is the first answer again",
}
_SUBMITTED: Final = json_answer(
    ref(SubmittedAnswer), "Taken in", status=201, example=examples.SUBMITTED, headers=SUBMITTED_HEADERS
)


@router.post(
    "/analysis/start",
    summary="Analyse the video behind a URL",
    response_class=Response,
    status_code=201,
    responses={**_SUBMITTED, **problems(400, 403, 409, 413, 507)},
    openapi_extra=_START,
)
async def start(
    request: Request, services: Services, base: BaseUrl, idempotency_key: IdempotencyKey = None
) -> Response:
    body = await json_object(request, services)
    if not await is_repeat(services, idempotency_key):
        await require_room(services)
    submitted = await services.handlers.submit_url(
        url=body.get("videoURL"),
        video_name=body.get("videoName"),
        models=body.get("modelsToRun"),
        frame_step=body.get("frameStep"),
        idempotency_key=idempotency_key,
    )
    return _created(submitted, base)


@router.post(
    "/analysis/upload",
    summary="Analyse an uploaded file",
    response_class=Response,
    status_code=201,
    responses={**_SUBMITTED, **problems(400, 403, 409, 413, 507)},
    openapi_extra=_UPLOAD,
)
async def upload(
    request: Request, services: Services, base: BaseUrl, idempotency_key: IdempotencyKey = None
) -> Response:
    turns: Turns = request.app.state.upload_turns
    if turns.taken >= turns.places:
        await _refuse(request, too_busy(f"{turns.places} uploads are under way; try again later"))
    with turns.take():
        repeat = await is_repeat(services, idempotency_key)
        if not repeat:
            await _require_room_for_upload(request, services)
        form = await _receive(request, services, keep=not repeat)
    submitted = await _submit_upload(services, form, idempotency_key)
    return _created(submitted, base)


async def _refuse(request: Request, error: ApiError) -> NoReturn:
    await drain(request, request.stream())
    raise error


async def _require_room_for_upload(request: Request, services: ApiServices) -> None:
    """Raises ApiError (507)."""
    if (reason := await services.no_room()) is not None:
        await _refuse(request, no_room(reason))
    if await asyncio.to_thread(services.room_bytes) < max(1, declared_bytes(request)):
        await _refuse(request, no_room())


async def _receive(request: Request, services: ApiServices, *, keep: bool) -> UploadForm:
    """`keep`: False for a repeat, of which only the digest is wanted; it needs no room."""
    limits = services.limits
    chunks = body_chunks(request, limits.upload_bytes, limits.upload_stall_seconds)
    content_type = request.headers.get("content-type", "")
    try:
        return await receive_upload(content_type, chunks, services.uploads, services.room_bytes, keep=keep)
    except ApiError as error:
        if error.status == HTTPStatus.INSUFFICIENT_STORAGE:
            await drain(request, request.stream())
        raise


async def _submit_upload(services: ApiServices, form: UploadForm, key: str | None) -> SubmittedVideo:
    """The file goes again when it is certain that no video needs it."""
    try:
        submitted = await services.handlers.submit_upload(
            path=form.path,
            file_name=form.file_name,
            video_name=form.text("videoName"),
            models=form.names("modelsToRun"),
            frame_step=form.text("frameStep"),
            idempotency_key=key,
            digest=form.digest,
        )
    except SubmissionUnknownError:
        raise
    except Exception:
        await _remove(form)
        raise
    if submitted.repeated:
        await _remove(form)
    return submitted


async def _remove(form: UploadForm) -> None:
    await asyncio.to_thread(form.path.unlink, missing_ok=True)


def _created(submitted: SubmittedVideo, base: str) -> Response:
    answer = submitted_answer(submitted, base)
    headers = submitted_headers(submitted, answer)
    return Response(msgspec.json.encode(answer), 201, headers=headers, media_type="application/json")


def submitted_headers(submitted: SubmittedVideo, answer: SubmittedAnswer) -> dict[str, str]:
    """Those of `SUBMITTED_HEADERS`."""
    headers = {"Location": answer.status_url}
    if submitted.repeated:
        headers["Idempotent-Replayed"] = "true"
    return headers


@router.post(
    "/analysis/{video_id}/cancel",
    summary="End the analysis; what was analysed is kept",
    description=(
        "A live source ends in order: what has come is analysed, then it is Completed (`stopping` until then). Asked"
        " again meanwhile, it is ended at once."
    ),
    response_class=Response,
    responses={**json_answer(ref(VideoAnswer), "As it is now"), **problems(400, 403, 404, 409)},
)
async def cancel(video_id: VideoId, services: Services, base: BaseUrl) -> Response:
    await services.handlers.cancel(video_id)
    video = await services.read_models.video(video_id)
    return Response(msgspec.json.encode(video_answer(video, base)), media_type="application/json")


@router.delete(
    "/analysis/{video_id}",
    summary="Remove the video and everything about it",
    response_class=Response,
    status_code=204,
    responses={**empty_answer(204, "It is gone from every answer"), **problems(400, 403, 404, 409)},
)
async def delete(video_id: VideoId, services: Services) -> Response:
    await services.handlers.delete(video_id)
    if services.annotated is not None:
        await services.annotated.forget(video_id)
    return Response(status_code=204)
