"""What is told of a viewer (WHEP): how it is, and its results as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from monolith.api.sse import GREETING, HEARTBEAT, until_stopped
from monolith.live.packets import CLOCK_RATE
from monolith.live.playback.messages import OutCodec
from monolith.live.playback.session import Session
from monolith.live.playback.viewer_messages import ClockPoint

_TYPE = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ViewerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A viewer. `player_delay_ms`, `clock_rate`: as in ViewerHello; `wall_time`: of this answer, Unix seconds; `clock`:
    of the newest picture with a result, null before the first; `pictures_left_out`, `results_left_out`: what this
    viewer was too slow for."""

    video_id: str
    codec: OutCodec
    overlay: Literal["none", "burned"]
    player_delay_ms: int
    clock_rate: int
    wall_time: float
    clock: ClockPoint | None
    pictures_sent: int
    pictures_left_out: int
    results_left_out: int


def viewer_answer(session: Session) -> ViewerAnswer:
    track = session.track
    return ViewerAnswer(
        video_id=session.broadcast.video_id,
        codec=track.codec,
        overlay="burned" if track.overlay else "none",
        player_delay_ms=session.player_delay_ms,
        clock_rate=CLOCK_RATE,
        wall_time=round(time.time(), 3),
        clock=session.clock_point,
        pictures_sent=track.sent,
        pictures_left_out=track.dropped,
        results_left_out=session.results_left_out,
    )


class ViewerFeed:
    """The results of one viewer's pictures, for one client."""

    def __init__(self, session: Session, *, stopping: asyncio.Event, heartbeat_seconds: float) -> None:
        self._session = session
        self._stopping = stopping
        self._heartbeat = heartbeat_seconds

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Text of the stream until the session ends or the server stops."""
        yield GREETING
        stop = asyncio.create_task(self._stopping.wait(), name="stop of a viewer's results")
        try:
            with self._session.listening() as outlet:
                async for message in until_stopped(outlet.next, stop, self._heartbeat):
                    yield HEARTBEAT if message is None else _event(message)
        finally:
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)


def _event(message: bytes) -> bytes:
    kind = bytes(_TYPE.decode(message)["type"]).strip(b'"')
    return b"event: %b\ndata: %b\n\n" % (kind, message)
