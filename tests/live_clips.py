"""Live packets out of clips, and their publisher, as fast as they play."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.video.stream import VideoStream

from monolith.live.feeds import LiveFeed
from monolith.live.packets import CLOCK_RATE, Codec, LivePacket, VideoFormat


def packets_of(path: Path) -> list[LivePacket]:
    """All packets of a file's video. H.264 and HEVC as MP4 holds them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert isinstance(stream, VideoStream)
        codec = cast("Codec", stream.codec_context.codec.canonical_name)
        video = VideoFormat(codec, stream.codec_context.extradata or b"")
        base = stream.time_base or Fraction(1, 1000)
        return [
            LivePacket(
                video,
                bytes(packet),
                round((packet.pts or 0) * base * CLOCK_RATE),
                round((packet.dts or 0) * base * CLOCK_RATE),
                packet.is_keyframe,
                0.0,
            )
            for packet in container.demux(stream)
            if packet.dts is not None
        ]


def endless(packets: list[LivePacket]) -> Iterator[LivePacket]:
    """The packets again and again, their times going on."""
    step = packets[1].dts - packets[0].dts
    length = packets[-1].dts - packets[0].dts + step
    for turn in itertools.count():
        for one in packets:
            shift = turn * length
            yield LivePacket(one.format, one.data, one.pts + shift, one.dts + shift, one.keyframe, 0.0)


async def publish(
    feed: LiveFeed, packets: Iterator[LivePacket], *, told: Callable[[LivePacket], None] = lambda packet: None
) -> None:
    """Publish as fast as they play."""
    started, first = time.monotonic(), None
    for packet in packets:
        first = packet.dts if first is None else first
        await asyncio.sleep(started + (packet.dts - first) / CLOCK_RATE - time.monotonic())
        now = LivePacket(packet.format, packet.data, packet.pts, packet.dts, packet.keyframe, time.time())
        told(now)
        feed.publish(now)
