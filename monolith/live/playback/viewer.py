"""The pictures that one viewer gets: from the publisher as they are, or from the shared encoder, whichever fits now."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from fractions import Fraction
from typing import Any, Final

from aiortc import RTCRtpSender
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.packet import Packet

from monolith.live.feeds import LiveFeed, LiveReader
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.playback.broadcast import Broadcast
from monolith.live.playback.clock import ViewerClock
from monolith.live.playback.h264 import annex_b
from monolith.live.playback.messages import OutCodec
from monolith.live.playback.pass_through import can_pass, packet_passes

_TICK: Final = Fraction(1, CLOCK_RATE)
_RTP_MASK: Final = 0xFFFFFFFF
_PAST_BITS_PER_SECOND: Final = 40e6
"""How fast a group of pictures that is past is sent: all at once, it would overflow sockets on its way."""
_FIRST_SECONDS: Final = 3.0
_FAILURES: Final = 3
_RETRY_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 1.0
"""At most once in so many seconds a viewer who lost pictures begins anew with the newest group."""


class ViewerTrack(MediaStreamTrack):
    """Packets for aiortc's sender. It ends when nothing is published any more. `on_sent`: called before a picture goes
    out, once the times of those before it are known."""

    kind = "video"

    def __init__(self, broadcast: Broadcast, *, overlay: bool, on_sent: Callable[[], None]) -> None:
        super().__init__()
        self.codec: OutCodec = "h264"
        """What was agreed on; to be set before the first picture is asked for."""
        self.clock = ViewerClock()
        self.sent = 0
        self.dropped = 0
        """Packets that this viewer was too slow for."""
        self._broadcast = broadcast
        self.overlay = overlay
        self._on_sent = on_sent
        self._sender: RTCRtpSender | None = None
        self._origin: int | None = None
        self._last_ticks: int | None = None
        self._sent_at: float | None = None
        self._feed: LiveFeed | None = None
        self._lost = False
        self._began_at = float("-inf")
        self._ask_keyframe: Callable[[], object] = _nothing
        self._packets = self._all_packets()

    def sent_by(self, sender: RTCRtpSender) -> None:
        """Hear from `sender` of pictures that the viewer lost. aiortc tells only an encoder of its own."""
        self._sender = sender
        sender._send_keyframe = self._pictures_lost  # type: ignore[method-assign]

    def rtp_timestamp(self, source_milliseconds: int) -> int | None:
        """Of the picture at this time of its source, if this viewer got it."""
        ticks = self.clock.of(source_milliseconds)
        return None if ticks is None or self._origin is None else (self._origin + ticks) & _RTP_MASK

    async def recv(self) -> Packet[Any]:
        self._learn_origin()
        self._on_sent()
        packet = await anext(self._packets, None) if self.readyState == "live" else None
        if packet is None:
            self.stop()
            raise MediaStreamError
        self._last_ticks = self.clock.ticks(packet.pts, packet.arrived)
        self._sent_at = time.monotonic()
        self.sent += 1
        coded: Packet[Any] = Packet(annex_b(packet))
        coded.pts, coded.time_base = self._last_ticks, _TICK
        return coded

    async def close(self) -> None:
        """Leave what it reads. For when nobody asks for pictures any more."""
        self.stop()
        await self._packets.aclose()

    def _learn_origin(self) -> None:
        """aiortc adds a random number to all times; what it made of the last one tells it."""
        if self._origin is None and self._last_ticks is not None and self._sender is not None:
            sent: int = self._sender._RTCRtpSender__rtp_timestamp  # type: ignore[attr-defined]
            self._origin = (sent - self._last_ticks) & _RTP_MASK

    def _pictures_lost(self) -> None:
        self._lost = True
        self._ask_keyframe()

    async def _all_packets(self) -> AsyncGenerator[LivePacket, None]:
        failures = 0
        while failures < _FAILURES and (feed := await self._broadcast.publisher()) is not None:
            before = self.sent
            await _first_picture(feed)
            async with aclosing(self._of(feed)) as packets:
                async for packet in packets:
                    yield packet
            if feed.ended and not feed.reason:  # by its publisher, in order: nothing more comes
                return
            failures = 0 if self.sent > before else failures + 1
            await asyncio.sleep(_RETRY_SECONDS if failures else 0)

    def _of(self, feed: LiveFeed) -> AsyncGenerator[LivePacket, None]:
        if not self.overlay and can_pass(feed, self.codec, self._broadcast.options.longest_group):
            return self._passed(feed)
        return self._encoded(feed)

    async def _passed(self, feed: LiveFeed) -> AsyncGenerator[LivePacket, None]:
        """As they come, until they cannot be passed any more, or the viewer is to begin anew."""
        group, whole = feed.newest_group, True
        if feed.ask_keyframe is not None:
            self._ask_keyframe = feed.ask_keyframe
            feed.ask_keyframe()
            whole = _seconds(group) <= self._broadcast.options.longest_group
        else:
            self._ask_keyframe = _nothing
        past = group if whole else []
        async with feed.read(past=whole) as reader:
            self._begin(feed, past)
            async for packet in self._counted(reader, len(past)):
                if not packet_passes(packet, self.codec) or self._begins_anew(feed):
                    return
                self._lost = self._lost and not packet.keyframe
                yield packet

    async def _encoded(self, feed: LiveFeed) -> AsyncGenerator[LivePacket, None]:
        async with self._broadcast.encoded(feed, self.codec, overlay=self.overlay) as encoder:
            self._ask_keyframe = encoder.ask_keyframe
            fresh = encoder.ask_keyframe()
            past = [] if fresh else encoder.output.newest_group
            async with encoder.output.read(past=not fresh) as reader:
                self._begin(feed, past)
                async for packet in self._counted(reader, len(past)):
                    yield packet

    async def _counted(self, reader: LiveReader, past: int) -> AsyncIterator[LivePacket]:
        """What is past not faster than networks bear."""
        dropped = 0
        async for packet in reader:
            self.dropped, dropped = self.dropped + reader.dropped - dropped, reader.dropped
            yield packet
            if past:
                past -= 1
                await asyncio.sleep(len(packet.data) * 8 / _PAST_BITS_PER_SECOND)

    def _begin(self, feed: LiveFeed, past: list[LivePacket]) -> None:
        elapsed = None
        if feed is not self._feed:
            elapsed = 0.0 if self._sent_at is None else time.monotonic() - self._sent_at
        self._feed, self._lost, self._began_at = feed, False, time.monotonic()
        self.clock.begin(past, elapsed)

    def _begins_anew(self, feed: LiveFeed) -> bool:
        """Whether pictures were lost, and none will come soon that mends it."""
        waited = time.monotonic() - self._began_at >= _AGAIN_SECONDS
        return self._lost and waited and feed.ask_keyframe is None


async def _first_picture(feed: LiveFeed) -> None:
    """Until there is a keyframe to go by, but not for long."""
    if feed.newest_group:
        return
    if feed.ask_keyframe is not None:
        feed.ask_keyframe()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_SECONDS), feed.read() as reader:
            await anext(reader, None)


def _seconds(group: list[LivePacket]) -> float:
    return (group[-1].dts - group[0].dts) / CLOCK_RATE if group else 0.0


def _nothing() -> None:
    """Nobody can be asked for a keyframe."""
