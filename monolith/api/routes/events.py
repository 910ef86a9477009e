"""The domain events of a video: a page of them, or as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from eventsourcing.errors import EventStoreError
from eventsourcing.events import RecordedEvent
from monolith.api.answers import EventAnswer
from monolith.api.openapi import json_answer, list_of, other_answer, problems
from monolith.api.requests import BaseUrl, Position, Services, VideoId
from monolith.api.services import ApiServices
from monolith.api.sse import EventFeed, event_answer, stream_prefixes
from monolith.api.streaming import PiecewiseResponse
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.videos import VideoView

router = APIRouter(tags=["events"])

_MOST_EVENTS: Final = 1000

Limit = Annotated[int, Query(ge=1, le=_MOST_EVENTS, description="At most so many")]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Sent by browsers that connect again; like `after`")
]


@router.get(
    "/analysis/{video_id}/events",
    summary="What has happened to the video",
    response_class=Response,
    responses={
        **json_answer(
            list_of(EventAnswer),
            "In the order of their commit positions (gaps are normal)",
            headers={"Link": '`rel="next"`: the next page, where this one is full'},
        ),
        **problems(400, 404),
    },
)
async def events(
    video_id: VideoId, services: Services, base: BaseUrl, after: Position = None, limit: Limit = 100
) -> Response:
    video = await services.read_models.video(video_id)
    recorded = await services.store.read_all(
        after=_start(video, after), prefixes=_prefixes(video), limit=limit
    )
    headers = {}
    if len(recorded) == limit:
        query = f"after={recorded[-1].commit_position}&limit={limit}"
        headers["Link"] = f'<{base}/analysis/{video_id}/events?{query}>; rel="next"'
    body = msgspec.json.encode(list(_answers(services, recorded)))
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    "/analysis/{video_id}/events/stream",
    summary="What happens to the video, as server-sent events",
    description=(
        "All that has happened, then what happens. `id` is the commit position, `event` the event type, `data` as in"
        " `/events`. The stream goes on behind `Last-Event-ID`; it ends when the video is deleted."
    ),
    response_class=Response,
    responses={**other_answer("text/event-stream", "The events"), **problems(400, 404)},
)
async def event_stream(
    request: Request,
    video_id: VideoId,
    services: Services,
    after: Position = None,
    last_event_id: LastEventId = None,
) -> Response:
    video = await services.read_models.video(video_id)
    resumed = after if last_event_id is None else _position(last_event_id)
    feed = EventFeed(
        services.store,
        services.decoder,
        video_id,
        [run.run_id for run in video.runs],
        after=_start(video, resumed),
        stopping=services.stopping,
        heartbeat_seconds=services.limits.heartbeat_seconds,
    )
    return PiecewiseResponse(
        feed.pieces(),
        media_type="text/event-stream",
        send_seconds=services.limits.send_seconds,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        turns=request.app.state.event_stream_turns,
    )


def _prefixes(video: VideoView) -> list[str]:
    return stream_prefixes(video.video_id, [run.run_id for run in video.runs])


def _start(video: VideoView, after: int | None) -> int:
    """Nothing about a video lies before its first event."""
    return max(video.submitted_position - 1, after or 0)


def _position(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(2**63)) or int(text) >= 2**63:
        raise InvalidRequestError(
            "Last-Event-ID must be the id of an event of this stream", field="Last-Event-ID"
        )
    return int(text)


def _answers(services: ApiServices, recorded: list[RecordedEvent]) -> Iterator[EventAnswer]:
    for event in recorded:
        try:
            decoded = services.decoder.decode(event)
        except EventStoreError:
            continue  # it is parked and counted where it is projected
        yield event_answer(event, decoded)
