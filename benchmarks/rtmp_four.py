"""Four publishers by RTMP, each with 1280×720 at 30/s and 4 Mb/s: what it costs to take, decode and sample them.

The publishers are ffmpeg; they pass on an H.264 clip of a street with B-frames and a keyframe every two seconds, which
was encoded before, so that they cost little. Objects are looked for in every tenth picture; the workers' time is
counted apart. `bare_cores` is the limit: libav decodes the same four, each in one thread, and nothing else is done.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import av
import httpx
from av.video.stream import VideoStream

from benchmarks.live_media import RATE, encode_street, megabits_per_second
from benchmarks.live_publisher import Way
from benchmarks.pipeline import loop_lag_p99
from benchmarks.processor import ProcessorTime
from tests.peers.rtmp import ffmpeg_to
from tests.program import Server

PUBLISHERS: Final = 4
FRAME_STEP: Final = 10
SECONDS: Final = 30.0
_CLIP_SECONDS: Final = 20.0
_START_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 5.0
"""Later than the first picture the pictures come as fast as they play."""


async def run(*, seconds: float = SECONDS, clip_seconds: float = _CLIP_SECONDS) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = await asyncio.to_thread(encode_street, folder / "street.mp4", clip_seconds)
        bare = await asyncio.to_thread(bare_cores, clip)
        figures = await _published(clip, folder, seconds)
        bare = (bare + await asyncio.to_thread(bare_cores, clip)) / 2
        megabits = await asyncio.to_thread(megabits_per_second, clip)
    bare *= PUBLISHERS
    return {
        **figures,
        "bare_cores": bare,
        "cores_to_bare": figures["cores"] / bare,
        "mbit_per_s_each": megabits,
    }


def bare_cores(clip: Path) -> float:
    """Processor seconds that decoding a second of `clip` takes, set as the program sets its decoders."""
    started, pictures = time.thread_time(), 0
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert isinstance(stream, VideoStream)
        stream.thread_type, stream.thread_count = "SLICE", 1
        for _ in container.decode(stream):
            pictures += 1
    return (time.thread_time() - started) / (pictures / RATE)


async def endpoints(client: httpx.AsyncClient, way: Way, count: int, frame_step: int) -> list[dict[str, Any]]:
    """`count` new endpoints to publish to, where objects are looked for."""
    path = f"/analysis/{'webrtc' if way == 'whip' else way}-endpoint"
    body = {"modelsToRun": ["objects_detection"], "frameStep": frame_step}
    answers = [await client.post(path, json=body) for _ in range(count)]
    return [answer.raise_for_status().json() for answer in answers]


async def until_connected(client: httpx.AsyncClient, video_id: str) -> None:
    """Until a picture of its publisher has come. Raises TimeoutError."""
    async with asyncio.timeout(_START_SECONDS):
        while not (await client.get(f"/analysis/{video_id}")).raise_for_status().json().get("connected"):
            await asyncio.sleep(0.1)


async def counts(client: httpx.AsyncClient, videos: Sequence[str]) -> list[tuple[int, int, int]]:
    """Of each video: the greatest frame analysed, how many were, how many sampled ones were lost."""
    found = []
    for video_id in videos:
        body = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
        run = body["runs"][0]
        found.append((body["greatest_frame_analyzed"] or 0, run["frames_analyzed"], run["frames_dropped"]))
    return found


async def measured(
    server: Server, client: httpx.AsyncClient, videos: Sequence[str], seconds: float
) -> dict[str, float]:
    """What the program does about videos that are being published, once all of them are analysed."""
    async with asyncio.timeout(_START_SECONDS):
        while not all(greatest for greatest, _, _ in await counts(client, videos)):
            await asyncio.sleep(0.2)
    await asyncio.sleep(_SETTLE_SECONDS)
    before, spent, since = await counts(client, videos), ProcessorTime(server), time.monotonic()
    await asyncio.sleep(seconds)
    cores, after, elapsed = spent.cores(), await counts(client, videos), time.monotonic() - since
    reached, analysed, lost = (
        sum(late[index] - early[index] for early, late in zip(before, after, strict=True))
        for index in range(3)
    )
    return {
        "cores": cores["main"] + cores["decoder"],
        "main_cores": cores["main"],
        "decoder_cores": cores["decoder"],
        "worker_cores": cores["worker"],
        "pictures_per_s": reached / elapsed,
        "analysed_per_s": analysed / elapsed,
        "lost_share": lost / max(1, lost + analysed),
        "loop_lag_p99_ms": loop_lag_p99((await client.get("/metrics")).text) * 1000,
    }


async def _published(clip: Path, folder: Path, seconds: float) -> dict[str, float]:
    async with Server(folder) as server, server.client() as client, AsyncExitStack() as publishers:
        made = await endpoints(client, "rtmp", PUBLISHERS, FRAME_STEP)
        for number, one in enumerate(made):
            log = folder / f"publisher-{number}.log"
            await publishers.enter_async_context(ffmpeg_to(one["rtmp_endpoint"], clip, log, loop=True))
        return await measured(server, client, [one["video_id"] for one in made], seconds)


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:20} {value:10.3f}")
