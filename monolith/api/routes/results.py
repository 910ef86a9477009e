"""Results: all rows of a video in several formats, or those of one frame."""

from __future__ import annotations

import contextlib
import errno
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monolith.api import examples
from monolith.api.exported_file import ExportedFileResponse
from monolith.api.filters import Filters, Wanted
from monolith.api.openapi import json_answer, list_of, problems
from monolith.api.problems import ApiError
from monolith.api.requests import (
    BaseUrl,
    FrameNumber,
    RunId,
    Services,
    VideoId,
    check_run_id,
    require_room,
)
from monolith.api.result_formats import FormatName, chosen_format
from monolith.api.rows import NDJSON, RowFormat, RowReader
from monolith.api.services import ApiServices
from monolith.api.streaming import PiecewiseResponse, Turns
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.rendering import ResultRow
from monolith.readmodels.results import START, ResultFilter, select_runs
from monolith.readmodels.schema import KEY_MASK, MODEL_MASK
from monolith.readmodels.table_export import EXPORT_FORMATS, ExportedFile, ExportFormat, export

router = APIRouter(tags=["results"])

_JSON: Final = "application/json"
_MOST_ROWS: Final = 10_000
_VARY: Final = {"Vary": "Accept"}

Limit = Annotated[
    int | None,
    Query(ge=1, le=_MOST_ROWS, description="A page of so many rows (`json`, `ndjson`); otherwise all"),
]
Cursor = Annotated[int | None, Query(ge=0, le=KEY_MASK, description="As in the `Link` of the page before")]


def _answers() -> dict[int | str, dict[str, Any]]:
    answers = json_answer(
        list_of(ResultRow),
        "By frame, then by model. Rows come from the newest completed run of each model, else the running one.",
        example=examples.ROWS,
        headers={
            "Link": '`rel="next"`: the next page, where `limit` left rows out',
            "Content-Disposition": "A file name; of `csv`, `parquet` and `arrow`",
        },
    )
    text = {"schema": {"type": "string"}, "example": examples.NDJSON_ROWS}
    binary = {"schema": {"type": "string", "format": "binary"}}
    answers[200]["content"] |= {NDJSON.media_type: text} | {
        kind.media_type: binary for kind in EXPORT_FORMATS.values()
    }
    return {**answers, **problems(400, 404, 507)}


@router.get(
    "/analysis/{video_id}/results",
    summary="All results: one row for each frame and model, or a file with one line for each detection",
    response_class=Response,
    responses=_answers(),
)
async def results(
    request: Request,
    video_id: VideoId,
    services: Services,
    base: BaseUrl,
    wanted: Wanted,
    format_name: FormatName = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    kind = chosen_format(request, format_name)
    if isinstance(kind, ExportFormat):
        for name, value in (("limit", limit), ("cursor", cursor)):
            if value is not None:
                raise InvalidRequestError(
                    f"{name} is for rows (format json or ndjson); a file holds all: leave it out, or narrow the file"
                    " with from_frame, to_frame, from_time or to_time",
                    field=name,
                )
        return await _file(services, request.app.state.export_turns, video_id, wanted, kind)
    video = await services.read_models.video(video_id)
    selection = select_runs(video, models=wanted.models, run_id=wanted.run_id)
    reader = RowReader(services.read_models, selection, wanted.wanted, base, kind)
    start = START if cursor is None else cursor
    if limit is not None:
        return await _page(reader, kind, request, base, start, limit)
    first = await reader.first_page(start)
    return PiecewiseResponse(
        reader.pieces(first),
        media_type=kind.media_type,
        send_seconds=services.limits.send_seconds,
        headers=_VARY,
    )


async def _page(
    reader: RowReader, kind: RowFormat, request: Request, base: str, cursor: int, limit: int
) -> Response:
    page = await reader.filled_page(cursor, limit)
    headers = dict(_VARY)
    if not page.end:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        following = f"{base}{request.url.path}?{urlencode([*query, ('cursor', str(page.cursor))])}"
        headers["Link"] = f'<{following}>; rel="next"'
    return Response(kind.whole(page), headers=headers, media_type=kind.media_type)


async def _file(
    services: ApiServices, turns: Turns, video_id: str, wanted: Filters, kind: ExportFormat
) -> Response:
    """A client that takes its time keeps the file on the disk: so many, no more."""
    turns.require()
    await require_room(services)
    with contextlib.ExitStack() as stack:
        stack.enter_context(turns.take())
        made = await _made(services, video_id, wanted, kind)
        stack.callback(made.file.close)
        return ExportedFileResponse(made, kind, services.limits.send_seconds, stack.pop_all().close)


async def _made(services: ApiServices, video_id: str, wanted: Filters, kind: ExportFormat) -> ExportedFile:
    reader = services.detections
    make = partial(export, kind=kind, folder=reader.scratch)
    try:
        return await reader.ask(video_id, wanted.wanted, make, models=wanted.models, run_id=wanted.run_id)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ApiError(
            507, "the disk has no room for the file; ask for less of the video", kind="no-room"
        ) from error


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
