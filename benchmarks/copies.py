"""What a second copy of the program on a second core gains, against what the bare loop gains from it: one file of ten
minutes, shared through the real RabbitMQ and the tests' KurrentDB server."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import bare_loop
from benchmarks.media import looped_bikes
from tests.e2e.copies import claimants, copies_started, events_of, until
from tests.peers.rabbitmq import RabbitMq
from tests.program import Server, upload

LOOPS: Final = 60
"""Of ten seconds each."""
FRAME_STEP: Final = 5
_FRAMES: Final = 250 * LOOPS // FRAME_STEP
_BARE_FRAMES: Final = 600
_SETTINGS: Final = {
    "WORKERS": "1",
    "WORKER_THREADS": "1",
    "MAX_CONCURRENT_SEGMENTS": "1",
    "SEGMENT_SECONDS": "10",
}


@contextmanager
def _on(core: int) -> Iterator[None]:
    """What is started within runs on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def _broker(folder: Path) -> AsyncIterator[RabbitMq]:
    broker = RabbitMq(folder)
    broker.start()
    try:
        await broker.until_ready()
        yield broker
    finally:
        broker.close()


async def _frames_per_second(folder: Path, broker: RabbitMq, clip: Path, count: int) -> float:
    """Of `count` copies, each on a core of its own, from the submission to the end of the run."""
    folder.mkdir()
    urls = [await asyncio.to_thread(broker.virtual_host)] * count
    async with copies_started(folder, count, urls, _SETTINGS, _on) as running:
        await running.leader()
        return await _analysed(running.servers[0], clip, count)


async def _analysed(server: Server, clip: Path, count: int) -> float:
    async with server.client() as client:
        started = datetime.now(UTC)
        video_id = await upload(client, clip, frame_step=FRAME_STEP)
        body: dict[str, Any] = {}

        async def ended() -> bool:
            nonlocal body
            body = (await client.get(f"/analysis/{video_id}")).json()
            return body["status"] in ("Completed", "Failed")

        await until(ended, timeout=3600)
        if body["status"] == "Failed":
            raise RuntimeError(body["error"])
        if len(claimants(await events_of(client, video_id))) != count:
            raise RuntimeError(f"not all of {count} copies took part")
        return _FRAMES / (datetime.fromisoformat(body["runs"][0]["ended"]) - started).total_seconds()


def _bare(processes: int) -> float:
    if processes > 1:
        return bare_loop.frames_per_second(_BARE_FRAMES, processes)
    with _on(0):
        return bare_loop.frames_per_second(_BARE_FRAMES // 2, processes)


async def run() -> dict[str, float]:
    """Frames/s of one copy and of two, and of the bare loop in one process and in two."""
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two copies of one core each need two cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = await asyncio.to_thread(looped_bikes, folder, LOOPS)
        bare = [await asyncio.to_thread(_bare, processes) for processes in (1, 2)]
        async with _broker(folder / "rabbitmq") as broker:
            program = [await _frames_per_second(folder / str(count), broker, clip, count) for count in (1, 2)]
    gain, bare_gain = program[1] / program[0], bare[1] / bare[0]
    return {
        "one_fps": program[0],
        "two_fps": program[1],
        "gain": gain,
        "bare_gain": bare_gain,
        "gain_to_bare": gain / bare_gain,
    }


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:20} {value:10.2f}")
