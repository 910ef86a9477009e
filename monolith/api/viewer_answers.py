"""What is told of a viewer (WHEP): how it is, and its results as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from monolith.api.sse import GREETING, HEARTBEAT, until_stopped
from monolith.live.packets import CLOCK_RATE
from monolith.live.playback.link import Level
from monolith.live.playback.messages import OutCodec
from monolith.live.playback.session import Session
from monolith.live.playback.viewer_messages import ClockPoint

_TYPE = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ViewerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A viewer. `player_delay_ms`, `clock_rate`: as in ViewerHello; `wall_time`: of this answer, Unix seconds; `clock`:
    of the newest picture with a result, null before the first; `pictures_left_out`, `results_left_out`: what this
    viewer was too slow for. `level`: what its network carries, all pictures, smaller ones or keyframes alone, and why
    it is not `full`; `bit_rate`: sent lately, `estimated_bit_rate`: what the viewer thinks its network carries, null
    where it does not say, in bits/s; `packets_lost`: the share that never came, 0 to 1, as the viewer reported last;
    `packets_resent`: for them."""

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
    level: Literal["full", "small", "keyframes"]
    reason: str
    bit_rate: int
    estimated_bit_rate: int | None
    packets_lost: float
    packets_resent: int
    keyframe_requests: int


def viewer_answer(session: Session) -> ViewerAnswer:
    track, counts = session.track, session.track.counts()
    quality, evidence = track.quality, track.quality.evidence
    return ViewerAnswer(
        video_id=session.broadcast.video_id,
        codec=track.codec,
        overlay="burned" if track.overlay else "none",
        player_delay_ms=session.player_delay_ms,
        clock_rate=CLOCK_RATE,
        wall_time=round(time.time(), 3),
        clock=session.clock_point,
        pictures_sent=track.sent,
        pictures_left_out=counts["dropped"] + counts["left_out"],
        results_left_out=session.results_left_out,
        level=quality.level.value,
        reason="" if quality.level is Level.FULL else quality.reason,
        bit_rate=round(evidence.rate),
        estimated_bit_rate=evidence.estimate,
        packets_lost=round(evidence.loss, 3),
        packets_resent=counts["resent"],
        keyframe_requests=counts["keyframe_requests"],
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
