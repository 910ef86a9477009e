"""What is known of videos."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from monolith.api import examples
from monolith.api.answers import (
    ConnectionAnswer,
    MetricAnswer,
    VideoAnswer,
    connection_answer,
    video_answer,
)
from monolith.api.openapi import json_answer, list_of, problems, ref
from monolith.api.requests import BaseUrl, RunId, Services, VideoId, check_run_id
from monolith.api.streaming import PiecewiseResponse
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import select_runs
from monolith.readmodels.videos import Status, VideoView

router = APIRouter(tags=["videos"])

_JSON: Final = "application/json"
_MOST_VIDEOS: Final = 10_000
_MOST_CONNECTIONS: Final = 10_000
_PAGE: Final = 200

StatusFilter = Annotated[
    Status | Literal["all"],
    Query(alias="status", description="Which videos, by the status of their first run"),
]
Limit = Annotated[int | None, Query(ge=1, le=_MOST_VIDEOS, description="At most so many; otherwise all")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to pass over")]

AfterConnection = Annotated[
    int, Query(ge=0, le=2**31 - 1, description="Only connections with a greater number")
]
ConnectionLimit = Annotated[int, Query(ge=1, le=_MOST_CONNECTIONS, description="At most so many")]


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
    reader = _VideoReader(services.read_models, None if status == "all" else status, base)
    first = await reader.page(offset=offset, limit=limit)
    return PiecewiseResponse(
        reader.array(first, limit), media_type=_JSON, send_seconds=services.limits.send_seconds
    )


class _Page(msgspec.Struct, frozen=True):
    text: bytes
    videos: int
    last: int | None
    """`video_no` of the last; None: nothing follows."""


class _VideoReader:
    """Reads and encodes a list of any length, page by page, in threads."""

    def __init__(self, models: ReadModels, status: Status | None, base: str) -> None:
        self._models = models
        self._status = status
        self._base = base

    async def page(self, *, limit: int | None, before: int | None = None, offset: int = 0) -> _Page:
        asked = _PAGE if limit is None else min(limit, _PAGE)
        found = await self._models.videos(status=self._status, limit=asked, offset=offset, before=before)
        text = await asyncio.to_thread(self._text, found)
        return _Page(text, len(found), found[-1].video_no if len(found) == asked else None)

    def _text(self, found: list[VideoView]) -> bytes:
        return msgspec.json.encode([video_answer(video, self._base) for video in found])[1:-1]

    async def array(self, page: _Page, limit: int | None) -> AsyncGenerator[bytes, None]:
        """The JSON array that begins with `page`, at most `limit` videos in all."""
        separator = b"["
        while page.videos:
            yield separator + page.text
            separator = b","
            limit = None if limit is None else limit - page.videos
            if page.last is None or limit == 0:
                break
            page = await self.page(limit=limit, before=page.last)
        yield b"[]" if separator == b"[" else b"]"


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


@router.get(
    "/analysis/{video_id}/connections",
    summary="The connections of a live source: when which of its frames came",
    response_class=Response,
    responses={
        **json_answer(
            list_of(ConnectionAnswer),
            "In their order; none where the source is not live",
            headers={"Link": '`rel="next"`: the next page, where this one is full'},
        ),
        **problems(400, 404),
    },
)
async def connections(
    video_id: VideoId,
    services: Services,
    base: BaseUrl,
    after: AfterConnection = 0,
    limit: ConnectionLimit = 1000,
) -> Response:
    video = await services.read_models.video(video_id)
    found = await services.read_models.connections(video, after=after, limit=limit)
    headers = {}
    if len(found) == limit:
        query = f"after={found[-1].connection}&limit={limit}"
        headers["Link"] = f'<{base}/analysis/{video_id}/connections?{query}>; rel="next"'
    answer = [connection_answer(video_id, one) for one in found]
    return Response(msgspec.json.encode(answer), headers=headers, media_type=_JSON)
