"""The domain events of a video: a page of them, or as they happen."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from monolith.api.answers import EventAnswer
from monolith.api.event_rendering import EventRenderer
from monolith.api.openapi import json_answer, list_of, other_answer, problems
from monolith.api.requests import BaseUrl, Position, Services, VideoId
from monolith.api.services import ApiServices
from monolith.api.sse import EventFeed, event_stream_response, stream_prefixes
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.videos import VideoView

router = APIRouter(tags=["events"])

_MOST_EVENTS: Final = 1000
_MOST_BYTES: Final = 4 << 20
_READ_EVENTS: Final = 64

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
            "In the order of their commit positions (gaps are normal); a page ends early after 4 MiB",
            headers={"Link": '`rel="next"`: the next page, where this one is full'},
        ),
        **problems(400, 404),
    },
)
async def events(
    request: Request,
    video_id: VideoId,
    services: Services,
    base: BaseUrl,
    after: Position = None,
    limit: Limit = 100,
) -> Response:
    video = await services.read_models.video(video_id)
    page = await _page(_renderer(request), services, video, _start(video, after), limit)
    headers = {}
    if page.following is not None:
        query = f"after={page.following}&limit={limit}"
        headers["Link"] = f'<{base}/analysis/{video_id}/events?{query}>; rel="next"'
    return Response(b"[" + page.text + b"]", headers=headers, media_type="application/json")


class _Page(msgspec.Struct, frozen=True):
    text: bytes
    following: int | None
    """Where the next page begins, if there may be one."""


async def _page(
    renderer: EventRenderer, services: ApiServices, video: VideoView, after: int, limit: int
) -> _Page:
    """At most `limit` events and, but for the last few of them, `_MOST_BYTES`."""
    texts: list[bytes] = []
    count = size = 0
    while count < limit and size < _MOST_BYTES:
        asked = min(_READ_EVENTS, limit - count)
        recorded = await services.store.read_all(after=after, prefixes=_prefixes(video), limit=asked)
        texts.append(await renderer.array(recorded))
        count, size = count + len(recorded), size + len(texts[-1])
        if len(recorded) < asked:
            return _Page(b",".join(filter(None, texts)), None)
        after = recorded[-1].commit_position
    return _Page(b",".join(filter(None, texts)), after)


def _renderer(request: Request) -> EventRenderer:
    renderer: EventRenderer = request.app.state.event_renderer
    return renderer


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
        _renderer(request),
        video_id,
        [run.run_id for run in video.runs],
        after=_start(video, resumed),
        stopping=services.stopping,
        heartbeat_seconds=services.limits.heartbeat_seconds,
    )
    return event_stream_response(request, services, feed.pieces())


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
