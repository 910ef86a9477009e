from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from monolith.live.feeds import LiveFeed
from monolith.live.packets import Codec, LivePacket, VideoFormat
from monolith.live.playback.messages import Begin
from monolith.live.playback.shared_encoder import SharedEncoder
from tests.live_clips import packets_of
from tests.videos import Recipe, make_video

BEGIN = Begin("h264", False, 720, 1e9)


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[LivePacket]:
    return packets_of(make_video(tmp_path_factory.mktemp("clip"), Recipe(frames=60, b_frames=2)))


@asynccontextmanager
async def encoding(feed: LiveFeed) -> AsyncIterator[SharedEncoder]:
    encoder = SharedEncoder(feed, BEGIN)
    encoder.start()
    async with asyncio.timeout(90):
        while not feed.readers:
            await asyncio.sleep(0.01)
    try:
        yield encoder
    finally:
        await encoder.stop()


def now(packet: LivePacket) -> LivePacket:
    return msgspec.structs.replace(packet, arrived=time.time())


async def test_all_pictures_of_a_publisher_come_out_in_the_order_of_showing(
    packets: list[LivePacket],
) -> None:
    feed = LiveFeed("v")
    async with encoding(feed) as encoder, encoder.output.read() as reader:
        for packet in packets:
            feed.publish(now(packet))
        feed.end()
        async with asyncio.timeout(90):
            pts = [packet.pts async for packet in reader]
    assert pts == sorted(pts)
    assert len(pts) >= len(packets) - 4  # B-frames wait in the decoder for those after them
    assert encoder.output.reason == ""
    assert encoder.pid is None


async def test_a_process_that_is_killed_ends_its_output_with_the_reason(packets: list[LivePacket]) -> None:
    feed = LiveFeed("v")
    async with encoding(feed) as encoder, encoder.output.read() as reader:
        for packet in packets[:30]:
            feed.publish(now(packet))
        async with asyncio.timeout(90):
            await anext(reader)
            assert encoder.pid is not None
            os.kill(encoder.pid, signal.SIGKILL)
            async for _ in reader:
                pass
    assert "killed by signal 9" in encoder.output.reason
    assert feed.readers == 0


async def test_packets_that_are_damaged_end_nothing(packets: list[LivePacket]) -> None:
    feed = LiveFeed("v")
    async with encoding(feed) as encoder, encoder.output.read() as reader:
        for number, packet in enumerate(packets):
            garbage = 10 <= number < 14
            feed.publish(now(msgspec.structs.replace(packet, data=b"\0\0\0\5garba") if garbage else packet))
        feed.end()
        async with asyncio.timeout(90):
            pts = [packet.pts async for packet in reader]
    assert packets[-5].pts in pts


@pytest.mark.parametrize(("codec", "count"), [("av1", 300), ("hevc", 3)])
async def test_where_nothing_can_be_decoded_it_ends_with_the_reason(
    packets: list[LivePacket], codec: Codec, count: int
) -> None:
    """The decoder of AV1 passes over what it does not know, without a word."""
    feed = LiveFeed("v")
    broken = VideoFormat(codec)
    async with encoding(feed) as encoder, encoder.output.read() as reader:
        for packet in itertools.islice(itertools.cycle(packets), count):
            feed.publish(now(msgspec.structs.replace(packet, format=broken, keyframe=True, dts=0)))
        async with asyncio.timeout(90):
            assert [packet async for packet in reader] == []
    assert encoder.output.reason.startswith("nothing that comes can be decoded: ")
    assert encoder.damaged == (3 if codec == "hevc" else 0)


async def test_keyframes_are_asked_for_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.live.playback.shared_encoder.KEYFRAME_SECONDS", 60.0)
    encoder = SharedEncoder(LiveFeed("v"), BEGIN)
    assert encoder.ask_keyframe()
    assert not encoder.ask_keyframe()
