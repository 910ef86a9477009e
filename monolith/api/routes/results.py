"""Results: all rows of a video, or those of one frame."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.openapi import json_answer, list_of, problems
from monolith.api.requests import (
    BaseUrl,
    FrameNumber,
    RunId,
    Services,
    VideoId,
    check_model_names,
    check_run_id,
)
from monolith.api.rows import RowReader
from monolith.api.streaming import PiecewiseResponse
from monolith.domain.models import INFERENCE_MODEL_NAMES
from monolith.readmodels.rendering import ResultRow
from monolith.readmodels.results import START, ResultFilter, select_runs
from monolith.readmodels.schema import KEY_MASK, MAX_FRAME_NUMBER, MODEL_MASK

router = APIRouter(tags=["results"])

_JSON: Final = "application/json"
_MOST_ROWS: Final = 10_000
_LONGEST_LABEL: Final = 100
_LONGEST_VIDEO: Final = 1e9

Models = Annotated[
    list[str] | None,
    Query(
        alias="model",
        description="Only these, by either of their names",
        json_schema_extra={
            "items": {"enum": [*INFERENCE_MODEL_NAMES, *INFERENCE_MODEL_NAMES.values()]},
        },
    ),
]
Frame = Annotated[int | None, Query(ge=0, le=MAX_FRAME_NUMBER, description="Inclusive")]
Seconds = Annotated[
    float | None, Query(ge=-_LONGEST_VIDEO, le=_LONGEST_VIDEO, description="Of video, inclusive")
]
Label = Annotated[
    str | None,
    Query(
        max_length=_LONGEST_LABEL,
        description="Only detections with this label, emotion or colour, and only rows that have one",
    ),
]
Confidence = Annotated[
    float | None, Query(ge=0, le=1, description="Show detections from here on, instead of the default")
]
Limit = Annotated[int | None, Query(ge=1, le=_MOST_ROWS, description="A page of so many rows; otherwise all")]
Cursor = Annotated[int | None, Query(ge=0, le=KEY_MASK, description="As in the `Link` of the page before")]


@router.get(
    "/analysis/{video_id}/results",
    summary="One row for each frame and model",
    response_class=Response,
    responses={
        **json_answer(
            list_of(ResultRow),
            "By frame, then by model. Rows come from the newest completed run of each model, else the running one.",
            example=examples.ROWS,
            headers={"Link": '`rel="next"`: the next page, where `limit` left rows out'},
        ),
        **problems(400, 404),
    },
)
async def results(
    request: Request,
    video_id: VideoId,
    services: Services,
    base: BaseUrl,
    model: Models = None,
    run: RunId = None,
    from_frame: Frame = None,
    to_frame: Frame = None,
    from_time: Seconds = None,
    to_time: Seconds = None,
    min_confidence: Confidence = None,
    label: Label = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    run_id, models = check_run_id(run), check_model_names(model or [])
    video = await services.read_models.video(video_id)
    wanted = ResultFilter(
        from_frame=from_frame,
        to_frame=to_frame,
        from_time=from_time,
        to_time=to_time,
        min_confidence=min_confidence,
        label=label,
    )
    selection = select_runs(video, models=models, run_id=run_id)
    reader = RowReader(services.read_models, selection, wanted, base)
    start = START if cursor is None else cursor
    if limit is not None:
        return await _page(reader, request, base, start, limit)
    first = await reader.first_page(start)
    return PiecewiseResponse(reader.array(first), media_type=_JSON, send_seconds=services.limits.send_seconds)


async def _page(reader: RowReader, request: Request, base: str, cursor: int, limit: int) -> Response:
    page = await reader.filled_page(cursor, limit)
    headers = {}
    if not page.end:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        following = f"{base}{request.url.path}?{urlencode([*query, ('cursor', str(page.cursor))])}"
        headers["Link"] = f'<{following}>; rel="next"'
    return Response(b"[" + page.text + b"]", headers=headers, media_type=_JSON)


@router.get(
    "/analysis/{video_id}/frame/{n}/results",
    summary="The rows of one frame",
    response_class=Response,
    responses={
        **json_answer(
            list_of(ResultRow), "One row for each model that is done with it", example=examples.ROWS
        ),
        **problems(400, 404),
    },
)
async def frame_results(
    video_id: VideoId, n: FrameNumber, services: Services, base: BaseUrl, run: RunId = None
) -> Response:
    run_id = check_run_id(run)
    video = await services.read_models.video(video_id)
    await services.read_models.frame(video, n)
    wanted = ResultFilter(from_frame=n, to_frame=n)
    page = await services.read_models.results_page(
        select_runs(video, run_id=run_id), wanted, base_url=base, limit=MODEL_MASK + 1
    )
    return Response(b"[" + page.text + b"]", media_type=_JSON)
