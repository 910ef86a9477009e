"""The pictures that one viewer gets: from the publisher as they are, or from a shared encoder, whichever fits now;
smaller ones, or keyframes alone, while the viewer's network carries no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from fractions import Fraction
from typing import Any, Final

from aiortc import RTCRtpSender
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.packet import Packet

from monolith.live.feeds import LiveFeed, LiveReader
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.playback.broadcast import Broadcast
from monolith.live.playback.clock import ViewerClock
from monolith.live.playback.encoder_places import NoEncoderError
from monolith.live.playback.h264 import annex_b
from monolith.live.playback.link import Level, Quality
from monolith.live.playback.messages import OutCodec
from monolith.live.playback.pass_through import can_pass, packet_passes
from monolith.live.playback.sender import ViewerSender
from monolith.live.playback.shared_encoder import SharedEncoder

_TICK: Final = Fraction(1, CLOCK_RATE)
_RTP_MASK: Final = 0xFFFFFFFF
_FIRST_SECONDS: Final = 3.0
_FAILURES: Final = 3
_RETRY_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 1.0
"""At most once in so many seconds a viewer who lost pictures begins anew with the newest group, or asks for a keyframe,
which all who share an encoder pay for."""
_SMALLER: Final = 0.75
"""Smaller pictures are encoded for a viewer where they take at most such a share of the full ones' bits."""
_EARLY_SECONDS: Final = 0.3
"""So far into a group of pictures one may go over to it: what is past of it comes on top."""


logger = logging.getLogger(__name__)


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
        self.left_out = 0
        """Pictures that were not sent, since the viewer's network carries no more."""
        self.keyframe_requests = 0
        """How often the viewer asked for a keyframe."""
        self.quality = Quality(time.monotonic())
        self.sender: ViewerSender | None = None
        self._broadcast = broadcast
        self.overlay = overlay
        self._on_sent = on_sent
        self._origin: int | None = None
        self._last_ticks: int | None = None
        self._sent_at: float | None = None
        self._feed: LiveFeed | None = None
        self._lost = False
        self._began_at = self._asked_at = float("-inf")
        self._small_helps = False
        self._ask_keyframe: Callable[[], object] = _nothing
        self._packets = self._all_packets()
        self._asking: asyncio.Task[object] | None = None
        """Who waits for a packet now."""

    def sent_by(self, sender: RTCRtpSender) -> None:
        """Hear from `sender` what the viewer reports."""
        self.sender = ViewerSender(sender, self)

    def estimated(self, bitrate: int) -> None:
        """By the viewer: bits/s that its network carries."""
        self.quality.evidence.estimated(bitrate, time.monotonic())

    def reported(self, lost: float) -> None:
        """By the viewer: share of the packets that never came."""
        self.quality.evidence.reported(lost, time.monotonic())

    def pictures_lost(self) -> None:
        """By the viewer, who needs a keyframe."""
        now = time.monotonic()
        self._lost = True
        self.keyframe_requests += 1
        self.quality.evidence.pictures_lost(now)
        if now - self._asked_at >= _AGAIN_SECONDS:
            self._asked_at = now
            self._ask_keyframe()

    @property
    def opened_at(self) -> float:
        """When the connection began that is shown, by the monotonic clock; what is known of pictures from before says
        nothing about its own."""
        return 0.0 if self._feed is None else self._feed.opened_at

    def counts(self) -> dict[str, int]:
        """Since the viewer came; `keyframe_requests`, `resent` and `not_resent` packets: as the viewer asked."""
        sender = self.sender
        return {
            "dropped": self.dropped,
            "left_out": self.left_out,
            "steps_down": self.quality.steps_down,
            "keyframe_requests": self.keyframe_requests,
            "resent": 0 if sender is None else sender.resent,
            "not_resent": 0 if sender is None else sender.not_resent,
        }

    def rtp_timestamp(self, source_milliseconds: int) -> int | None:
        """Of the picture at this time of its source, if this viewer got it."""
        ticks = self.clock.of(source_milliseconds)
        return None if ticks is None or self._origin is None else (self._origin + ticks) & _RTP_MASK

    async def recv(self) -> Packet[Any]:
        self._learn_origin()
        self._on_sent()
        if self.sender is not None:
            self.sender.pace(self._pace)
        packet = await self._next() if self.readyState == "live" else None
        if packet is None:
            self.stop()
            raise MediaStreamError
        self._last_ticks = self.clock.ticks(packet.pts, packet.arrived)
        self._sent_at = time.monotonic()
        self.sent += 1
        data = annex_b(packet)
        if not self.clock.hurries:
            self.quality.evidence.sent(len(data), self._sent_at)
        coded: Packet[Any] = Packet(data)
        coded.pts, coded.time_base = self._last_ticks, _TICK
        return coded

    async def close(self) -> None:
        """Leave what it reads. For when nobody asks for pictures any more; who does, as the connection was not closed
        in time, is cancelled."""
        self.stop()
        while (asking := self._asking) is not None:
            asking.cancel()
            await asyncio.wait({asking}, timeout=_RETRY_SECONDS)
        await self._packets.aclose()

    async def _next(self) -> LivePacket | None:
        self._asking = asyncio.current_task()
        try:
            return await anext(self._packets, None)
        finally:
            self._asking = None

    def _learn_origin(self) -> None:
        """aiortc adds a random number to all times; what it made of the last one tells it."""
        if self._origin is None and self._last_ticks is not None and self.sender is not None:
            self._origin = (self.sender.rtp_timestamp - self._last_ticks) & _RTP_MASK

    async def _all_packets(self) -> AsyncGenerator[LivePacket, None]:
        failures = 0
        while failures < _FAILURES and (feed := await self._broadcast.publisher()) is not None:
            before = self.sent
            await _first_picture(feed)
            small = self._is_small
            async with aclosing(self._of(feed, small=small)) as packets:
                async for packet in packets:
                    if packet.keyframe or self.quality.level is not Level.KEYFRAMES:
                        yield packet
                    else:
                        self.left_out += 1
                    if self._judge(feed, packet) and self._is_small is not small:
                        break
            if feed.ended and not feed.reason:  # by its publisher, in order: nothing more comes
                return
            failures = 0 if self.sent > before or self._is_small is not small else failures + 1
            await asyncio.sleep(_RETRY_SECONDS if failures else 0)

    def _pace(self) -> float:
        rate = self._feed.bit_rate if self._feed is not None else 0.0
        if self._is_small:
            rate = self._broadcast.options.small_bits
        return self.quality.pace(time.monotonic(), rate)

    @property
    def _is_small(self) -> bool:
        """Whether smaller pictures are read."""
        return self.quality.level is not Level.FULL and self._small_helps

    def _judge(self, feed: LiveFeed, packet: LivePacket) -> bool:
        """Whether the level has changed, after `packet`. Keyframes alone are left, and smaller pictures too, where more
        begins soon."""
        level = self.quality.level
        if level is Level.FULL:
            bits, rate = self._broadcast.options.small_bits, feed.bit_rate or self.quality.evidence.rate
            helps = feed.ask_keyframe is not None or bits < rate * _SMALLER
            self._small_helps = helps and self._broadcast.may_encode(
                feed, self.codec, overlay=self.overlay, small=True
            )
        elif level is Level.KEYFRAMES and not packet.keyframe:
            return False
        elif (
            level is Level.SMALL
            and feed.ask_keyframe is None
            and _seconds(feed.newest_group) > _EARLY_SECONDS
        ):
            return self.quality.judge_down(time.monotonic())
        return self.quality.judge(time.monotonic(), small=self._small_helps)

    def _of(self, feed: LiveFeed, *, small: bool) -> AsyncGenerator[LivePacket, None]:
        passes = not self.overlay and can_pass(feed, self.codec, self._broadcast.options.longest_group)
        if passes and not small:
            return self._passed(feed)
        return self._encoded(feed, small=small)

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
            async for packet in self._counted(reader):
                if not packet_passes(packet, self.codec) or self._begins_anew(feed):
                    return
                self._lost = self._lost and not packet.keyframe
                yield packet

    async def _encoded(self, feed: LiveFeed, *, small: bool) -> AsyncGenerator[LivePacket, None]:
        shared = self._broadcast.encoded(feed, self.codec, overlay=self.overlay, small=small)
        async with _unless_full(shared) as encoder:
            if encoder is None:
                return
            self._ask_keyframe = encoder.ask_keyframe
            fresh = encoder.ask_keyframe()
            past = [] if fresh else encoder.output.newest_group
            async with encoder.output.read(past=not fresh) as reader:
                self._begin(feed, past)
                async for packet in self._counted(reader):
                    yield packet

    async def _counted(self, reader: LiveReader) -> AsyncIterator[LivePacket]:
        dropped = 0
        async for packet in reader:
            self.dropped, dropped = self.dropped + reader.dropped - dropped, reader.dropped
            yield packet

    def _begin(self, feed: LiveFeed, past: list[LivePacket]) -> None:
        elapsed = None
        if feed is not self._feed:
            elapsed = 0.0 if self._sent_at is None else time.monotonic() - self._sent_at
        self._feed, self._lost, self._began_at = feed, False, time.monotonic()
        self.clock.begin(past, elapsed)

    def _begins_anew(self, feed: LiveFeed) -> bool:
        """Whether pictures were lost, and none will come soon that mends it."""
        waited = time.monotonic() - self._began_at >= _AGAIN_SECONDS
        whole = self.quality.level is not Level.KEYFRAMES
        return self._lost and waited and whole and feed.ask_keyframe is None


async def _first_picture(feed: LiveFeed) -> None:
    """Until there is a keyframe to go by, but not for long."""
    if feed.newest_group:
        return
    if feed.ask_keyframe is not None:
        feed.ask_keyframe()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_SECONDS), feed.read() as reader:
            await anext(reader, None)


@asynccontextmanager
async def _unless_full(
    shared: AbstractAsyncContextManager[SharedEncoder],
) -> AsyncIterator[SharedEncoder | None]:
    """None where there may be no more encoders."""
    async with AsyncExitStack() as stack:
        try:
            encoder = await stack.enter_async_context(shared)
        except NoEncoderError as error:
            logger.warning("a viewer gets no pictures now: %s", error)
            yield None
        else:
            yield encoder


def _seconds(group: list[LivePacket]) -> float:
    return (group[-1].dts - group[0].dts) / CLOCK_RATE if group else 0.0


def _nothing() -> None:
    """Nobody can be asked for a keyframe."""
