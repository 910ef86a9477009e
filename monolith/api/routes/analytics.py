"""Results counted: over equal pieces of a video's time, or over all of it."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from monolith.api import examples
from monolith.api.analytics_answers import (
    SummaryAnswer,
    TimelineAnswer,
    summary_answer,
    timeline_answer,
)
from monolith.api.filters import Confidence, Models, Seconds
from monolith.api.openapi import json_answer, problems, ref
from monolith.api.requests import RunId, Services, VideoId, check_model_names, check_run_id
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.detections import DetectionTables
from monolith.readmodels.results import ResultFilter
from monolith.readmodels.summary import Findings, findings, models_at_work
from monolith.readmodels.timeline import LEAST_SECONDS, MOST_BUCKETS, timeline

router = APIRouter(tags=["results"])

_JSON: Final = "application/json"
_AUTO: Final = "auto"
_LONGEST_BUCKET: Final = 1e9

BucketSeconds = Annotated[
    str,
    Query(
        alias="bucket",
        description=(
            f"Seconds of one bucket, or `auto`: a round number of them that makes about 200. At most {MOST_BUCKETS}"
            " buckets in one answer."
        ),
        json_schema_extra={
            "anyOf": [
                {"type": "number", "minimum": LEAST_SECONDS, "maximum": _LONGEST_BUCKET},
                {"const": _AUTO},
            ]
        },
    ),
]


@router.get(
    "/analysis/{video_id}/timeline",
    summary="What was found when: counts of classes, shares of emotions and colours, bucket by bucket",
    response_class=Response,
    responses={
        **json_answer(
            ref(TimelineAnswer),
            "From the first time with results to the last, or between those asked for; also while it is analysed",
            example=examples.TIMELINE,
        ),
        **problems(400, 404),
    },
)
async def video_timeline(
    video_id: VideoId,
    services: Services,
    bucket: BucketSeconds = _AUTO,
    model: Models = None,
    run: RunId = None,
    from_time: Seconds = None,
    to_time: Seconds = None,
    min_confidence: Confidence = None,
) -> Response:
    seconds = _bucket(bucket)
    wanted = ResultFilter(from_time=from_time, to_time=to_time, min_confidence=min_confidence)

    def work(tables: DetectionTables) -> bytes:
        return msgspec.json.encode(timeline_answer(tables, timeline(tables, seconds)))

    answer = await services.detections.ask(
        video_id, wanted, work, models=check_model_names(model or []), run_id=check_run_id(run)
    )
    return Response(answer, media_type=_JSON)


@router.get(
    "/analysis/{video_id}/summary",
    summary="What was found in all of it: classes, emotions, palette, and which models found it",
    response_class=Response,
    responses={
        **json_answer(ref(SummaryAnswer), "As far as it is analysed", example=examples.SUMMARY),
        **problems(400, 404),
    },
)
async def video_summary(
    video_id: VideoId,
    services: Services,
    model: Models = None,
    run: RunId = None,
    min_confidence: Confidence = None,
) -> Response:
    def work(tables: DetectionTables) -> tuple[DetectionTables, Findings]:
        return tables, findings(tables)

    tables, found = await services.detections.ask(
        video_id,
        ResultFilter(min_confidence=min_confidence),
        work,
        models=check_model_names(model or []),
        run_id=check_run_id(run),
    )
    runs = {view.run_id: view for view in tables.video.runs}
    chosen = [(runs[table.run_id], table.model_keys) for table in tables.runs]
    models = await services.read_models.read(
        lambda connection: models_at_work(connection, chosen, min_confidence),
        generation=tables.video.generation,
    )
    answer = await asyncio.to_thread(lambda: msgspec.json.encode(summary_answer(tables, found, models)))
    return Response(answer, media_type=_JSON)


def _bucket(text: str) -> float | None:
    """Seconds; None: `auto`. Raises InvalidRequestError."""
    if text == _AUTO:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not LEAST_SECONDS <= seconds <= _LONGEST_BUCKET:
        raise InvalidRequestError(
            f"bucket takes a number of seconds from {LEAST_SECONDS:g}, such as 10, or auto; not {text[:100]!r}",
            field="bucket",
        )
    return seconds
