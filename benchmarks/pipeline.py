"""The main job on the real program: analysed frames/s against the bare loop and a hand-written one, and how the API
and the event loop fare meanwhile."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks import bare_loop, plain_loop
from benchmarks.media import looped_bikes
from tests.program import Server, upload

FRAMES = 1500


async def _until_ended(
    client: httpx.AsyncClient, video_id: str, pause: float, latencies: list[float]
) -> dict[str, Any]:
    """Ask for the status every `pause` seconds until the end; how long each answer took, in seconds."""
    while True:
        started = time.perf_counter()
        body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).json()
        latencies.append(time.perf_counter() - started)
        if body["status"] == "Failed":
            raise RuntimeError(body["error"])
        if body["status"] == "Completed":
            return body
        await asyncio.sleep(pause)


async def _flat_out(clip: Path, folder: Path) -> dict[str, float]:
    """First the speed, with a user who looks once a second; then how the API answers twenty requests a second."""
    async with Server(folder, PRECISION="f32") as server, server.client() as client:
        started = datetime.now(UTC)
        body = await _until_ended(client, await upload(client, clip), 1.0, [])
        elapsed = (datetime.fromisoformat(body["runs"][0]["ended"]) - started).total_seconds()
        latencies: list[float] = []
        await _until_ended(client, await upload(client, clip, frame_step=3), 0.05, latencies)
        return {
            "program_fps": FRAMES / elapsed,
            "api_p99_ms": _p99(latencies) * 1000,
            "loop_lag_p99_ms": loop_lag_p99((await client.get("/metrics")).text) * 1000,
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
