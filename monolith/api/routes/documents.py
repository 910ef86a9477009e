"""Results as documents for other programs: COCO for training and evaluation, WebVTT for players."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monolith.api.file_names import attachment
from monolith.api.filters import Filters, Wanted
from monolith.api.openapi import json_answer, other_answer, problems
from monolith.api.requests import BaseUrl, Services, VideoId
from monolith.api.services import ApiServices
from monolith.api.streaming import PiecewiseResponse
from monolith.exports.documents import Source, coco_document, webvtt_document
from monolith.readmodels.results import select_runs
from monolith.readmodels.webvtt import Kind

router = APIRouter(tags=["results"])

_JSON: Final = "application/json"
_VTT: Final = "text/vtt"
_COLORS: Final = "color_detection"
_COCO: Final = {
    "type": "object",
    "required": ["info", "licenses", "categories", "annotations", "images"],
    "properties": {
        "info": {"type": "object"},
        **{
            name: {"type": "array", "items": {"type": "object"}}
            for name in ("licenses", "categories", "annotations", "images")
        },
    },
}

CueKind = Annotated[
    Kind, Query(description="What is seen, as text; or the boxes of each frame, as JSON in each cue")
]


@router.get(
    "/analysis/{video_id}/coco.json",
    summary="Results in COCO's format for object detection",
    description=(
        "An image's id is its frame number; objects have the ids of COCO's own categories, emotions of faces are"
        " further ones; `score` is 0–1. Filters are those of `/results`."
    ),
    response_class=Response,
    responses={
        **json_answer(_COCO, "Images, categories and annotations of the wanted frames"),
        **problems(400, 404),
    },
)
async def coco(
    request: Request, video_id: VideoId, services: Services, base: BaseUrl, wanted: Wanted
) -> Response:
    source = await _source(services, video_id, base, wanted)
    return PiecewiseResponse(
        coco_document(source, services.uploads),
        media_type=_JSON,
        send_seconds=services.limits.send_seconds,
        headers={"Content-Disposition": attachment(source.video.video_name, ".coco.json")},
        turns=request.app.state.export_turns,
    )


@router.get(
    "/analysis/{video_id}/subtitles.vtt",
    summary="Results as WebVTT: what is seen when",
    description=(
        "`kind=subtitles` says what is seen, once for as long as it stays the same; colours only where `model` names"
        " them alone. `kind=metadata` has a cue for each frame with its boxes as JSON, for players that draw them."
    ),
    response_class=Response,
    responses={**other_answer(_VTT, "Cues in order"), **problems(400, 404)},
)
async def subtitles(
    video_id: VideoId, services: Services, base: BaseUrl, wanted: Wanted, kind: CueKind = "subtitles"
) -> Response:
    source = await _source(services, video_id, base, wanted)
    return PiecewiseResponse(
        webvtt_document(source, kind, with_colors=wanted.models == (_COLORS,)),
        media_type=_VTT,
        send_seconds=services.limits.send_seconds,
        headers={"Content-Disposition": attachment(source.video.video_name, ".vtt", inline=True)},
    )


async def _source(services: ApiServices, video_id: str, base: str, wanted: Filters) -> Source:
    video = await services.read_models.video(video_id)
    selection = select_runs(video, models=wanted.models, run_id=wanted.run_id)
    return Source(services.read_models, video, selection, wanted.wanted, base)
