"""The main job on the real program: analysed frames/s against the bare loop and a hand-written one, and how the API
and the event loop fare meanwhile."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks import bare_loop, plain_loop
from benchmarks.media import looped_bikes
from tests.program import Server, upload

FRAMES = 1500


async def _poll(client: httpx.AsyncClient, video_id: str, latencies: list[float]) -> dict[str, Any]:
    while True:
        started = time.perf_counter()
        body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).json()
        latencies.append(time.perf_counter() - started)
        if body["status"] in ("Completed", "Failed"):
            return body
        await asyncio.sleep(0.02)


async def _flat_out(clip: Path, folder: Path) -> dict[str, float]:
    latencies: list[float] = []
    async with (
        Server(folder, PRECISION="f32") as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        started = time.perf_counter()
        video_id = await upload(client, clip)
        body = await _poll(client, video_id, latencies)
        elapsed = time.perf_counter() - started
        if body["status"] != "Completed":
            raise RuntimeError(body["error"])
        lag = loop_lag_p99((await client.get("/metrics")).text)
        return {
            "program_fps": FRAMES / elapsed,
            "api_p99_ms": _p99(latencies) * 1000,
            "loop_lag_p99_ms": lag * 1000,
            "main_process_mb": server.memory_mb(),
        }


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def loop_lag_p99(text: str) -> float:
    """The upper bound of the histogram's bucket that holds the 99th percentile, in seconds."""
    pattern = r'event_loop_lag_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)'
    buckets = [(float(bound), float(count)) for bound, count in re.findall(pattern, text)]
    return next(bound for bound, count in buckets if count >= 0.99 * buckets[-1][1])


async def run() -> dict[str, float]:
    """All figures of the main job, from one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = await asyncio.to_thread(looped_bikes, folder)
        bare_before = await asyncio.to_thread(bare_loop.frames_per_second, FRAMES)
        figures = await _flat_out(clip, folder)
        bare_after = await asyncio.to_thread(bare_loop.frames_per_second, FRAMES)
        plain = await asyncio.to_thread(plain_loop.frames_per_second, clip, 500)
    bare = (bare_before + bare_after) / 2
    return {
        **figures,
        "bare_loop_fps": bare,
        "plain_loop_fps": plain,
        "program_to_bare": figures["program_fps"] / bare,
        "program_to_plain": figures["program_fps"] / plain,
    }


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:20} {value:10.2f}")
