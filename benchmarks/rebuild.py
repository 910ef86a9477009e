"""How fast read models are rebuilt, alone and beside a server that is used: `python -m benchmarks.rebuild [frames]`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx

from benchmarks.read_models import video_events
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.bootstrap.rebuild import rebuilding_alone
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.ids import new_id
from monolith.settings import Settings
from tests.program import Server

VIDEOS: Final = 10
READS_PER_SECOND: Final = 40
WRITES_PER_SECOND: Final = 2
_AT_ONCE: Final = 200


async def fill(path: Path, frames: int) -> list[str]:
    """Events of `VIDEOS` videos with `frames` frame results in all, one model; the videos' ids."""
    store, codec = await SqliteEventStore.open(path), EventCodec(DOMAIN_EVENTS)
    video_ids = [new_id() for _ in range(VIDEOS)]
    for video_id in video_ids:
        pairs = list(video_events(video_id, new_id(), frames // VIDEOS))
        for first in range(0, len(pairs), _AT_ONCE):
            await asyncio.gather(
                *(
                    store.append(stream, [codec.encode(event)], expected_version=ANY)
                    for stream, event in pairs[first : first + _AT_ONCE]
                )
            )
    await store.close()
    return video_ids


async def alone(data: Path) -> float:
    """Seconds."""
    started = time.perf_counter()
    async with rebuilding_alone(Settings(data_dir=data, min_free_bytes=0)) as rebuilds:
        rebuilds.start(["read-models"])
        status = await rebuilds.wait()
    assert status.state == "completed", status.error
    return time.perf_counter() - started


class Load:
    """A few users: they look at videos and pages of results, and submit something now and then."""

    def __init__(self, client: httpx.AsyncClient, video_ids: list[str]) -> None:
        self.read_ms: list[float] = []
        self.write_ms: list[float] = []
        self._client = client
        self._video_ids = video_ids

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._read, 1 / READS_PER_SECOND))
            group.create_task(self._repeat(self._write, 1 / WRITES_PER_SECOND))

    async def _repeat(self, ask: Callable[[int], Awaitable[None]], seconds: float) -> None:
        number = 0
        while True:
            await ask(number)
            number += 1
            await asyncio.sleep(seconds)

    async def _read(self, number: int) -> None:
        video = f"/analysis/{self._video_ids[number % len(self._video_ids)]}"
        path = video if number % 2 else f"{video}/results?limit=100&from_frame={number}"
        started = time.perf_counter()
        (await self._client.get(path)).raise_for_status()
        self.read_ms.append((time.perf_counter() - started) * 1000)

    async def _write(self, number: int) -> None:
        """A video that cannot be fetched: three events, and an answer that waits for the read models."""
        body = {"videoURL": "http://127.0.0.1:9/none.mp4", "modelsToRun": ["objects_detection"]}
        started = time.perf_counter()
        (await self._client.post("/analysis/start", json=body)).raise_for_status()
        self.write_ms.append((time.perf_counter() - started) * 1000)


async def beside(server: Server, video_ids: list[str]) -> dict[str, float]:
    async with server.client() as client:
        load = Load(client, video_ids)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(3)
        quiet = p99(load.read_ms)
        load.read_ms.clear()
        load.write_ms.clear()
        seconds = await _rebuilt(client)
        loading.cancel()
        await asyncio.wait((loading,))
    return {
        "beside_seconds": seconds,
        "quiet_p99_ms": quiet,
        "beside_p99_ms": p99(load.read_ms),
        "beside_write_most_ms": max(load.write_ms),
    }


async def _rebuilt(client: httpx.AsyncClient) -> float:
    started = time.perf_counter()
    (await client.post("/rebuild?projection=read-models")).raise_for_status()
    while (status := (await client.get("/rebuild")).json())["state"] == "running":
        await asyncio.sleep(0.1)
    assert status["state"] == "completed", status
    return time.perf_counter() - started


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def run(frames: int = 300_000) -> dict[str, float]:
    """Frame results (with the frames' storing) a second; latencies of reads while it goes on, and before it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        video_ids = await fill(folder / "data" / "events.db", frames)
        seconds = await alone(folder / "data")
        async with Server(folder, LOG_LEVEL="warning") as server:
            figures = await beside(server, video_ids)
    rates = {
        "alone_frame_results_per_s": frames / seconds,
        "beside_frame_results_per_s": frames / figures.pop("beside_seconds"),
    }
    return {**rates, **figures}


if __name__ == "__main__":
    for key, figure in asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)).items():
        print(f"{key:>28} {figure:>12,.2f}")
