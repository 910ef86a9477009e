"""Stored frames as pictures."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monolith.api.openapi import other_answer, problems
from monolith.api.problems import RETRY_AFTER, ApiError, too_busy
from monolith.api.requests import FrameNumber, RunId, Services, VideoId, check_run_id
from monolith.api.services import ApiServices
from monolith.domain.detection import Detection, at_least
from monolith.domain.models import shown_from
from monolith.frames.jpeg import JpegError
from monolith.readmodels.frames import FrameLocation
from monolith.readmodels.results import select_runs
from monolith.storage import FrameDamagedError, FrameGoneError

router = APIRouter(tags=["results"])

_JPEG: Final = "image/jpeg"

logger = logging.getLogger(__name__)

Annotated_ = Annotated[bool, Query(description="Draw boxes, labels and colours; otherwise exactly as stored")]
Confidence = Annotated[
    float | None, Query(ge=0, le=1, description="Draw detections from here on, instead of the default")
]


@router.get(
    "/analysis/{video_id}/frame/{n}",
    summary="A stored frame with what was found in it",
    response_class=Response,
    responses={**other_answer(_JPEG, "The picture", binary=True), **problems(400, 404, 410)},
)
async def frame(
    request: Request,
    video_id: VideoId,
    n: FrameNumber,
    services: Services,
    annotated: Annotated_ = True,
    run: RunId = None,
    min_confidence: Confidence = None,
) -> Response:
    run_id = check_run_id(run)
    models = services.read_models
    video = await models.video(video_id)
    location = await models.frame(video, n)
    if not annotated:
        jpeg = await _in_thread(request, video_id, location, None)
        return Response(jpeg, media_type=_JPEG)
    found = await models.frame_detections(select_runs(video, run_id=run_id), n)
    detections = [
        detection
        for entry in found
        for detection in entry.detections
        if at_least(detection, shown_from(entry.model_key, min_confidence))
    ]
    return Response(await _in_thread(request, video_id, location, detections), media_type=_JPEG)


async def _in_thread(
    request: Request, video_id: str, location: FrameLocation, detections: list[Detection] | None
) -> bytes:
    """The picture, with `detections` drawn in unless None. As many at once as there are turns."""
    services: ApiServices = request.app.state.services
    turns: asyncio.Semaphore = request.app.state.frame_turns

    def read() -> bytes:
        jpeg = services.read_frame(video_id, location.pack, location.offset, location.length)
        return jpeg if detections is None else services.annotate(jpeg, detections)

    try:
        async with asyncio.timeout(services.limits.frame_wait_seconds):
            await turns.acquire()
    except TimeoutError as error:
        raise too_busy("too many pictures are being drawn; try again later") from error
    try:
        return await asyncio.to_thread(read)
    except (FrameGoneError, FrameDamagedError, JpegError, OSError) as error:
        raise _unreadable(location.frame_number, error) from error
    finally:
        turns.release()


def _unreadable(number: int, error: Exception) -> ApiError:
    """A picture that is gone or damaged stays so (404); a disk that fails may come back (503)."""
    if isinstance(error, FrameGoneError):
        return ApiError(404, f"the picture of frame {number} was removed", kind="frame-removed")
    if isinstance(error, OSError):
        logger.warning("the picture of frame %d cannot be read: %s", number, error)
        detail = f"the picture of frame {number} cannot be read now: {error.strerror}"
        return ApiError(503, detail, kind="unavailable", headers=RETRY_AFTER)
    logger.warning("the picture of frame %d is damaged: %s", number, error)
    return ApiError(404, f"the stored picture of frame {number} is damaged: {error}", kind="frame-damaged")
