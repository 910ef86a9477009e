"""What is known of videos."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import MetricAnswer, VideoAnswer, video_answer
from monolith.api.openapi import json_answer, list_of, problems, ref
from monolith.api.requests import BaseUrl, RunId, Services, VideoId, check_run_id
from monolith.readmodels.results import select_runs
from monolith.readmodels.videos import Status

router = APIRouter(tags=["videos"])

_JSON: Final = "application/json"
_MOST_VIDEOS: Final = 10_000

StatusFilter = Annotated[
    Status | Literal["all"],
    Query(alias="status", description="Which videos, by the status of their first run"),
]
Limit = Annotated[int | None, Query(ge=1, le=_MOST_VIDEOS, description="At most so many; otherwise all")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to pass over")]


@router.get(
    "/analysis/videos",
    summary="The completed videos, the newest first",
    response_class=Response,
    responses={**json_answer(list_of(VideoAnswer), "Perhaps none"), **problems(400)},
)
async def videos(
    services: Services,
    base: BaseUrl,
    status: StatusFilter = "Completed",
    limit: Limit = None,
    offset: Offset = 0,
) -> Response:
    wanted = None if status == "all" else status
    found = await services.read_models.videos(status=wanted, limit=limit, offset=offset)
    return Response(msgspec.json.encode([video_answer(video, base) for video in found]), media_type=_JSON)


@router.get(
    "/analysis/{video_id}",
    summary="A video: status, progress, runs",
    response_class=Response,
    responses={**json_answer(ref(VideoAnswer), "What is known"), **problems(400, 404)},
)
async def video(video_id: VideoId, services: Services, base: BaseUrl) -> Response:
    found = await services.read_models.video(video_id)
    return Response(msgspec.json.encode(video_answer(found, base)), media_type=_JSON)


@router.get(
    "/analysis/{video_id}/metrics",
    summary="Sums over the video: times in seconds, numbers of frames",
    response_class=Response,
    responses={
        **json_answer(list_of(MetricAnswer), "Sums so far", example=examples.METRICS),
        **problems(400, 404),
    },
)
async def metrics(video_id: VideoId, services: Services, run: RunId = None) -> Response:
    found = await services.read_models.video(video_id)
    selection = select_runs(found, run_id=check_run_id(run))
    sums = await services.read_models.metrics(found, selection)
    answer = [
        MetricAnswer(video_id=video_id, metric_name=metric.metric_name, metric_value=metric.metric_value)
        for metric in sums
    ]
    return Response(msgspec.json.encode(answer), media_type=_JSON)
