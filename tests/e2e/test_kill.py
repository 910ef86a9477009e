"""Kill any process of the program at any moment, start it again: the results are those of an undisturbed run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload

SETTINGS = {"PRECISION": "f32", "SEGMENT_SECONDS": "2", "WORKERS": "2"}
FRAME_STEP = 5
ROUNDS = 3
"""Each kind of process is the first victim once."""
FULL_ROUNDS = 100
VICTIMS = ("main", "worker", "decoder")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        async with (
            Server(tmp_path_factory.mktemp("undisturbed"), **SETTINGS) as server,
            server.client() as client,
        ):
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP)
            assert (await until_ended(client, video_id))["status"] == "Completed"
            return await result_rows(client, video_id)

    rows = asyncio.run(run())
    assert len(rows) == 3 * (250 // FRAME_STEP)
    return rows


async def test_kills_change_nothing(tmp_path: Path, undisturbed: list[tuple[Any, ...]]) -> None:
    await kill_rounds(tmp_path, undisturbed, ROUNDS, seed=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_many_kills_change_nothing(tmp_path: Path, undisturbed: list[tuple[Any, ...]]) -> None:
    await kill_rounds(tmp_path, undisturbed, FULL_ROUNDS, seed=2)


async def kill_rounds(folder: Path, expected: list[tuple[Any, ...]], rounds: int, seed: int) -> None:
    """Each round: submit, kill one process or several at random moments (the first of each kind in turn), compare."""
    chance = random.Random(seed)
    async with Server(folder, **SETTINGS) as server:
        for number in range(rounds):
            async with server.client() as client:
                video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP)
            victims = [VICTIMS[number % 3], *chance.choices(VICTIMS, k=chance.randrange(3))]
            for victim in victims:
                await asyncio.sleep(chance.uniform(0.0, 1.2))
                await kill(server, victim, chance)
            async with server.client() as client:
                body = await until_ended(client, video_id)
                assert body["status"] == "Completed", (number, victims, body["error"], server.output[-3000:])
                assert await result_rows(client, video_id) == expected, (number, victims)
                await assert_nothing_twice(client, video_id)


async def test_a_signal_to_all_processes_at_once_ends_in_order(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    """As a service manager does it: SIGTERM to every process; nothing counts as a failure."""
    async with Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            await asyncio.sleep(0.7)
            for pid in server.children():
                with contextlib.suppress(ProcessLookupError):  # a decoder may have been idle
                    os.kill(pid, number)
            assert await server.stop() == 0
            await server.start()
        async with server.client() as client:
            assert (await until_ended(client, video_id))["status"] == "Completed"
            assert await result_rows(client, video_id) == undisturbed
            events = (await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})).json()
        assert "SegmentFailed" not in {event["event_type"] for event in events}
        assert "Traceback" not in server.output


async def kill(server: Server, victim: str, chance: random.Random) -> None:
    if victim == "main":
        await server.kill()
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        await server.start()
        return
    pids = [pid for pid, kind in server.children().items() if kind == victim]
    if pids:  # a decoder may be idle and gone already
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)


async def assert_nothing_twice(client: Any, video_id: str) -> None:
    """In the events themselves: each frame is stored once, judged once by each model, each segment closed once."""
    seen: Counter[tuple[Any, ...]] = Counter()
    after: int | None = None
    while True:
        params = {"limit": 500} if after is None else {"limit": 500, "after": after}
        events = (await client.get(f"/analysis/{video_id}/events", params=params)).json()
        for event in events:
            data = event["data"]
            match event["event_type"]:
                case "FramesStored":
                    seen.update(("stored", frame[0]) for frame in data["frames"])
                case "FramesAnalysed":
                    seen.update((data["model"]["key"], frame[0]) for frame in data["frames"])
                case "SegmentClosed" | "SegmentCompleted" | "RunCompleted":
                    seen[(event["event_type"], data.get("segment"))] += 1
        if len(events) < 500:
            break
        after = events[-1]["commit_position"]
    assert seen
    assert {what: count for what, count in seen.items() if count > 1} == {}
