"""An hour's worth of publishers, viewers and attackers against the whole program; afterwards it is as before.

Between parts everyone leaves, and the program comes to rest: nothing is left to do, every video has ended as it should,
and what the main process holds is measured. The rule for flat: after the first quarter (warm-up: libraries, pools and
the allocator's arenas fill), memory at rest grows by no more than `GROWTH_MB`, however many videos there were since;
what SQLite keeps of the databases is apart, and never more than `DATABASES_MB`. Files, threads and tasks do not grow
beyond what they were then.

    LIVE_SOAK_HOURS=0.2 ./test.sh --full tests/e2e/test_live_soak.py -s      # a fifth of the acts; levels are printed
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from monolith.frames.jpeg import decode
from tests.peers.rtmp import ffmpeg_to
from tests.program import Server
from tests.soak.rest import Level, check_files, check_log, check_videos, rest
from tests.soak.schedule import Turn, an_hour, play
from tests.soak.stage import FRAME_STEP, PICTURES, SETTINGS, Clips, Stage
from tests.videos import Recipe, make_video, read_barcode

HOURS: Final = float(os.environ.get("LIVE_SOAK_HOURS", "1"))
SEED: Final = int(os.environ.get("LIVE_SOAK_SEED", "1"))
PARTS: Final = 12
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Peers of the tests that vanish leave sockets and tasks behind; the program's own are looked at by its log."""
GROWTH_MB: Final = 8.0
"""A thousand states of videos and five thousand heads of streams take half of it."""
DATABASES_MB: Final = 18.0
"""The caches of all connections, full: 4 + 4 × 1 of the events, as much of the read models, 1 of the analytics files;
statements and the like."""
CHILD_GROWTH_MB: Final = 12.0
A_FEW: Final = 8
"""Threads and connections of pools come, and go some seconds after a burst: a leak shows in each of the last levels."""
PLAIN: Final = Recipe(frames=PICTURES, gop=25, width=320, height=240)
B_FRAMES: Final = Recipe(frames=PICTURES, gop=50, b_frames=2, width=320, height=240)


async def test_each_act_once_leaves_nothing_behind(tmp_path: Path) -> None:
    await soak(tmp_path, share=0.0, parts=1)


@pytest.mark.full
@pytest.mark.timeout(4 * 3600)
async def test_an_hours_worth_of_publish_kill_reconnect_and_garbage(tmp_path: Path) -> None:
    levels = await soak(tmp_path, share=HOURS, parts=PARTS)
    warm, end = levels[len(levels) // 4], levels[-1]
    assert end.memory <= warm.memory + GROWTH_MB, levels
    assert max(level.databases for level in levels) <= DATABASES_MB, levels
    assert end.child_memory <= warm.child_memory + CHILD_GROWTH_MB, levels
    last = levels[-len(levels) // 4 :]
    for what in ("files", "threads", "tasks"):
        assert min(getattr(level, what) for level in last) <= getattr(warm, what) + A_FEW, (what, levels)


async def soak(folder: Path, *, share: float, parts: int) -> list[Level]:
    """What the program holds at rest: before, and after each of `parts`."""
    turns = an_hour(SEED, share)
    size = -(-len(turns) // parts)
    async with staged(folder) as stage:
        await publish_and_check(stage)
        levels = [await rest(stage)]
        for part in range(parts):
            await play_beside_a_bystander(stage, turns[part * size : (part + 1) * size])
            levels.append(await rest(stage))
            print(f"part {part + 1} of {parts}: {levels[-1]}", flush=True)
            check_log(stage.server)
        await check_videos(stage)
        check_files(stage)
        await publish_and_check(stage)
    assert await stage.server.stop() == 0
    check_log(stage.server)
    assert not (folder / "data" / "run" / "live.sock").exists()
    return levels


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    clips = Clips(
        make_video(_made(folder / "plain"), PLAIN), make_video(_made(folder / "b-frames"), B_FRAMES)
    )
    async with Server(folder, **SETTINGS) as server, server.client() as client:
        yield Stage(server, client, folder, clips)


async def play_beside_a_bystander(stage: Stage, turns: Sequence[Turn]) -> None:
    """A publisher who keeps to the rules is never sent away, and always analysed."""
    endpoint = await stage.rtmp()
    async with (
        stage.airing(endpoint),
        ffmpeg_to(endpoint.url, stage.clips.plain, stage.log, loop=True) as bystander,
    ):
        await stage.until(endpoint, lambda body: body["frames_analyzed"] > 0)
        await play(stage, turns)
        assert bystander.returncode is None
        seen = (await stage.status(endpoint.video_id))["frames_analyzed"]
        await stage.until(endpoint, lambda body: body["frames_analyzed"] > seen)
        bystander.terminate()
        await bystander.wait()


async def publish_and_check(stage: Stage) -> None:
    """Every sampled picture of a publish has its result, and is the one that was published."""
    endpoint = await stage.rtmp()
    async with ffmpeg_to(endpoint.url, stage.clips.b_frames, stage.log) as publisher:
        assert await publisher.wait() == 0
    body = await stage.until(endpoint, lambda body: body["status"] == "Completed")
    assert (body["frames_total"], body["connections"]) == (PICTURES, 1), body
    rows = (await stage.client.get(f"/analysis/{endpoint.video_id}/results")).raise_for_status().json()
    numbers = sorted(row["frame_number"] for row in rows)
    assert len(numbers) + body["frames_dropped"] == PICTURES // FRAME_STEP and numbers
    for number in numbers:
        path = f"/analysis/{endpoint.video_id}/frame/{number}"
        answer = await stage.client.get(path, params={"annotated": "false"})
        assert read_barcode(decode(answer.raise_for_status().content)) == number


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
