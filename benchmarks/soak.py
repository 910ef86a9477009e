"""The main process's memory while an hour of media goes through it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.media import looped_bikes
from tests.program import Server, upload

LOOPS = 360
"""Of a clip of 10 seconds: an hour."""
FRAME_STEP = 25


async def run() -> dict[str, float]:
    """Resident megabytes of the main process (frame slots left out) at a quarter, at the end, and the most seen."""
    with tempfile.TemporaryDirectory() as name:
        clip = await asyncio.to_thread(looped_bikes, Path(name), LOOPS)
        async with Server(Path(name), PRECISION="f32") as server, server.client() as client:
            video_id = await upload(client, clip, frame_step=FRAME_STEP)
            seen: list[tuple[float, float]] = []
            while True:
                body = (await client.get(f"/analysis/{video_id}")).json()
                seen.append((body["progress"] or 0.0, server.memory_mb()))
                if body["status"] == "Failed":
                    raise RuntimeError(body["error"])
                if body["status"] == "Completed":
                    break
                await asyncio.sleep(1)
    quarter = next(memory for progress, memory in seen if progress >= 0.25)
    return {
        "media_hours": LOOPS * 10 / 3600,
        "quarter_mb": quarter,
        "end_mb": seen[-1][1],
        "most_mb": max(memory for _, memory in seen),
        "growth_mb": seen[-1][1] - quarter,
    }
