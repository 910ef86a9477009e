"""A video's events as server-sent events: what has happened, then what happens, across its streams.

A run has streams of its own, so the subscription is renewed whenever a run is requested. It pulls: a slow client slows
its own stream alone, and is cut off by the deadline of the send.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore, SubscriptionItem
from monolith.api.event_rendering import EventRenderer, encode, event_answer, slices
from monolith.api.services import ApiServices
from monolith.api.streaming import PiecewiseResponse
from monolith.domain.events import RunRequested, VideoDeleted

T = TypeVar("T")

HEARTBEAT: Final = b": still here\n\n"
GREETING: Final = b"retry: 2000\n\n"


def stream_prefixes(video_id: str, run_ids: Iterable[str]) -> list[str]:
    """Of all streams of a video with these runs."""
    return [f"video-{video_id}", f"frames-{video_id}-", *(f"results-{run_id}-" for run_id in run_ids)]


async def until_stopped(
    fetch: Callable[[], Awaitable[T | None]], stop: asyncio.Task[bool], heartbeat: float
) -> AsyncIterator[T | None]:
    """What `fetch` brings until it brings None or `stop` is done; None after each `heartbeat` seconds without
    anything."""
    fetching: asyncio.Task[T | None] | None = None
    try:
        while True:
            fetching = fetching or asyncio.create_task(_fetched(fetch), name="next of an event stream")
            await asyncio.wait((fetching, stop), timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if not fetching.done():
                yield None
                continue
            item, fetching = fetching.result(), None
            if item is None:
                return
            yield item
    finally:
        if fetching is not None:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)


async def _fetched(fetch: Callable[[], Awaitable[T | None]]) -> T | None:
    return await fetch()


def event_stream_response(
    request: Request, services: ApiServices, pieces: AsyncGenerator[bytes, None]
) -> Response:
    return PiecewiseResponse(
        pieces,
        media_type="text/event-stream",
        send_seconds=services.limits.send_seconds,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        turns=request.app.state.event_stream_turns,
    )


class EventFeed:
    """The server-sent events of one video, for one client."""

    def __init__(
        self,
        store: EventStore,
        renderer: EventRenderer,
        video_id: str,
        run_ids: Iterable[str],
        *,
        after: int | None,
        stopping: asyncio.Event,
        heartbeat_seconds: float,
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._video_id = video_id
        self._run_ids = set(run_ids)
        self._after = after
        self._stopping = stopping
        self._heartbeat = heartbeat_seconds
        self._ended = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Text of the stream until the video is deleted, the store closes or the server stops."""
        yield GREETING
        stop = asyncio.create_task(self._stopping.wait(), name="stop of an event feed")
        try:
            while not (self._ended or stop.done()):
                async for piece in self._subscription(stop):
                    yield piece
        finally:
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)

    async def _subscription(self, stop: asyncio.Task[bool]) -> AsyncIterator[bytes]:
        """Pieces until a new run needs another subscription, or the end."""
        runs = len(self._run_ids)
        prefixes = stream_prefixes(self._video_id, sorted(self._run_ids))
        async with self._store.subscribe(after=self._after, prefixes=prefixes) as items:
            async for item in until_stopped(partial(_next, items), stop, self._heartbeat):
                if item is None:
                    yield HEARTBEAT
                for part in slices(item) if isinstance(item, list) else ():
                    if text := await self._renderer.run(partial(self._text, part), part):
                        yield text
                    if self._ended or len(self._run_ids) != runs:
                        return
        self._ended = True

    def _text(self, events: Sequence[RecordedEvent]) -> bytes:
        return b"".join(self._render(events))

    def _render(self, events: Sequence[RecordedEvent]) -> Iterable[bytes]:
        """Up to and including an event after which the subscription must be renewed."""
        for recorded in events:
            self._after = recorded.commit_position
            event = self._renderer.decode(recorded)
            if event is None:
                continue
            yield _message(recorded, event)
            if isinstance(event, VideoDeleted):
                self._ended = True
                return
            if isinstance(event, RunRequested) and event.run_id not in self._run_ids:
                self._run_ids.add(event.run_id)
                return


async def _next(items: AsyncIterator[SubscriptionItem]) -> SubscriptionItem | None:
    """None at the end."""
    try:
        return await anext(items)
    except StopAsyncIteration:
        return None


def _message(recorded: RecordedEvent, event: msgspec.Struct) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        recorded.commit_position,
        recorded.event_type.encode(),
        encode(event_answer(recorded, event)),
    )
