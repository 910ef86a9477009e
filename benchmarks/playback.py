"""What viewers of live video cost, and how soon they see something: 720p at 30 pictures a second, on this machine.

The viewers are in a process of their own, and decode nothing: what is measured is the program's side.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.frame import VideoFrame

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from monolith.domain.events import DOMAIN_EVENTS
from monolith.live.feeds import LiveFeeds
from monolith.live.packets import LivePacket
from monolith.live.playback.broadcast import PlaybackOptions
from monolith.live.playback.encoder import Decoder, PictureEncoder
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.playback.messages import Begin
from monolith.live.playback.results import LiveResults
from monolith.live.playback.sessions import Viewers
from monolith.live.webrtc.ice import IceOptions
from tests.live_clips import endless, packets_of, publish

WIDTH, HEIGHT, RATE = 1280, 720, 30
SECONDS: Final = 8
_CLIP_SECONDS: Final = 4
_MANY: Final = 5
_VIDEO: Final = "0197c0de-0000-7000-8000-000000000001"


async def run() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        passes = await asyncio.to_thread(make_clip, Path(folder, "passes.mp4"), 0)
        encoded = await asyncio.to_thread(make_clip, Path(folder, "encoded.mp4"), 2)
        own = await asyncio.to_thread(encoding_cores, passes)
        one, first_passed = await viewing(passes, 1)
        many, _ = await viewing(passes, _MANY)
        shared_one, first_encoded = await viewing(encoded, 1)
        shared_many, _ = await viewing(encoded, _MANY)
    further = (many - one) / (_MANY - 1)
    shared = (shared_many - shared_one) / (_MANY - 1)
    return {
        "encoding_for_one_cores": own,
        "further_viewer_cores": further,
        "further_viewer_to_encoding": further / own,
        "further_viewer_of_encoder_cores": shared,
        "further_viewer_of_encoder_to_encoding": shared / own,
        "first_viewer_of_encoder_cores": shared_one,
        "first_picture_passed_ms": first_passed * 1000,
        "first_picture_encoded_ms": first_encoded * 1000,
    }


def make_clip(path: Path, b_frames: int) -> list[LivePacket]:
    """Noise that moves, about 4 Mb/s; a keyframe every second."""
    random = np.random.default_rng(1)
    ground = random.integers(60, 190, (HEIGHT // 8, WIDTH // 8 + 200, 3), np.uint8)
    options = {
        "preset": "veryfast",
        "g": str(RATE),
        "bf": str(b_frames),
        "b": "4M",
        "maxrate": "4M",
        "bufsize": "4M",
    }
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(RATE * _CLIP_SECONDS):
            part = ground[:, number : number + WIDTH // 8]
            picture = np.ascontiguousarray(part.repeat(8, axis=0).repeat(8, axis=1))
            container.mux(stream.encode(VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return packets_of(path)


def encoding_cores(packets: list[LivePacket]) -> float:
    """Processor seconds a second of video for decoding and encoding it, as the shared encoder does."""
    decoder = Decoder()
    encoder = PictureEncoder(Begin("h264", overlay=False, max_height=HEIGHT, latest=1e9))
    started = time.process_time()
    for packet in packets:
        for picture in decoder.pictures(packet):
            encoder.encode(picture)
    return (time.process_time() - started) / _CLIP_SECONDS


async def viewing(packets: list[LivePacket], count: int) -> tuple[float, float]:
    """Processor seconds a second with `count` viewers; seconds until the first of them got a picture."""
    feeds = LiveFeeds()
    results = LiveResults(MemoryEventStore(), EventCodec(DOMAIN_EVENTS), FrameTimes())
    feed = feeds.open(_VIDEO)
    publishing = asyncio.create_task(publish(feed, endless(packets)))
    try:
        await asyncio.sleep(2.5)
        async with Viewers(feeds, results, IceOptions(interfaces=("lo",)), PlaybackOptions()) as viewers:
            return await _measured(viewers, count)
    finally:
        publishing.cancel()
        await asyncio.wait({publishing})


async def _measured(viewers: Viewers, count: int) -> tuple[float, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.playback_viewers", str(count),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    offers: list[str] = json.loads(await process.stdout.readline())
    answers = [(await viewers.open(_VIDEO, offer.encode(), overlay=False))[1] for offer in offers]
    process.stdin.write(json.dumps(answers).encode() + b"\n")
    first: list[float] = json.loads(await process.stdout.readline())
    before, since = _processor_seconds(), time.monotonic()
    await asyncio.sleep(SECONDS)
    cores = (_processor_seconds() - before) / (time.monotonic() - since)
    process.stdin.write(b"0\n")
    await process.wait()
    return cores, min(first)


def _processor_seconds() -> float:
    """Of this process and of the encoders that it started, not of the viewers."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"playback.encoder" in Path("/proc", pid, "cmdline").read_bytes():
                fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")
