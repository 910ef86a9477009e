"""Retention as users run it: through a server that works on, alone, by clear_frames.py, killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.retention import fill
from tests.e2e.test_analytics import until_files
from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload
from tests.readmodel_rows import Rows, assert_same_rows, rows

ROOT = Path(__file__).parents[2]
WAIT = 100.0
FRAME_STEP = 10
SETTINGS = {"PRECISION": "f32", "SEGMENT_SECONDS": "2", "WORKERS": "1"}
SEGMENTS = 1000
KILLS = 3


class Ended:
    """A command that has ended."""

    def __init__(self, code: int, output: bytes, errors: bytes) -> None:
        self.code = code
        self.output = output.decode()
        self.errors = errors.decode()

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.errors
        found: dict[str, Any] = json.loads(self.output)
        return found


async def started(folder: Path, *command: str, cwd: Path = ROOT) -> asyncio.subprocess.Process:
    environment = {**os.environ, "VIDEO_ANALYSIS_DATA_DIR": str(folder / "data"), "NO_COLOR": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable, *command,
        env=environment, stdin=asyncio.subprocess.DEVNULL, cwd=cwd,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(folder: Path, *command: str, cwd: Path = ROOT) -> Ended:
    process = await started(folder, *command, cwd=cwd)
    async with asyncio.timeout(WAIT):
        output, errors = await process.communicate()
    return Ended(process.returncode or 0, output, errors)


async def retention(folder: Path, *options: str) -> Ended:
    return await run(folder, "-m", "monolith", "retention", *options)


async def rebuilt(folder: Path) -> None:
    """Rebuilt read models are those that were there."""
    live = Path(shutil.copy(folder / "data" / "readmodels.db", folder / "kept.db"))
    ended = await run(folder, "-m", "monolith", "rebuild", "--projection", "read-models")
    assert ended.code == 0, ended.errors
    assert_same_rows(live, folder / "data" / "readmodels.db")


def stored(folder: Path, video_id: str) -> list[Path]:
    return [path for path in (folder / "data" / "videos" / video_id).rglob("*") if path.is_file()]


async def test_one_video_goes_and_another_stays(tmp_path: Path) -> None:
    async with Server(tmp_path, **SETTINGS) as server, server.client() as client:
        gone, kept = [await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP) for _ in range(2)]
        before = [await until_ended(client, video_id) for video_id in (gone, kept)]
        kept_rows = await result_rows(client, kept)
        await until_files(client)  # they count among what is freed
        packs = sum(path.stat().st_size for path in stored(tmp_path, gone) if path.suffix == ".mjpeg")
        dry = (await retention(tmp_path, "--days", "0", "--dry-run", "--keep", kept, "--json")).json
        assert (dry["videos"], dry["segments"], dry["frames"]) == (1, 5, 25)
        report = await retention(tmp_path, "--days", "0", "--yes", "--keep", kept)
        assert f"working through the server at {server.url}" in report.errors
        assert "5 segments of 1 video went, with 25 frames" in report.output
        state = (await client.get("/retention")).json()["last"]
        assert 100_000 < packs < state["bytes_freed"] == dry["bytes_freed"]
        assert list((tmp_path / "data" / "analytics" / gone).rglob("*.parquet")) == []
        after = [(await client.get(f"/analysis/{video_id}")).json() for video_id in (gone, kept)]
        assert after == [{**before[0], "expired_segments": 5, "frames_expired": 25}, before[1]]
        await assert_gone(client, gone)
        assert await result_rows(client, kept) == kept_rows
        assert (await client.get(f"/analysis/{kept}/frame/10")).status_code == 200
        assert stored(tmp_path, gone) == []
        assert stored(tmp_path, kept)
    await rebuilt(tmp_path)


async def assert_gone(client: httpx.AsyncClient, video_id: str) -> None:
    for path in ("frame/10", "frame/10?annotated=false", "frame/10/results"):
        answer = await client.get(f"/analysis/{video_id}/{path}")
        assert (answer.status_code, answer.json()["title"]) == (410, "Frame expired")
    assert (await client.get(f"/analysis/{video_id}/results")).json() == []


async def test_segments_go_while_their_video_is_analysed(tmp_path: Path) -> None:
    """As often as possible: what is completed goes, and the analysis ends as if nothing had happened."""
    async with Server(tmp_path, **{**SETTINGS, "SEGMENT_SECONDS": "1"}) as server, server.client() as client:
        video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=3)
        went = 0
        while (await client.get(f"/analysis/{video_id}")).json()["status"] in ("Pending", "Processing"):
            went += await let_go(client)
        went += await let_go(client)
        status = await until_ended(client, video_id)
        assert (status["status"], status["frames_analyzed"], status["frames_stored"]) == ("Completed", 83, 83)
        assert (status["greatest_frame_analyzed"], status["coverage"]) == (249, 1.0)
        assert status["expired_segments"] == status["runs"][0]["segments"]["planned"] == went
        assert status["runs"][0]["segments"]["closed"] == went
        assert stored(tmp_path, video_id) == []
    await rebuilt(tmp_path)


async def let_go(client: httpx.AsyncClient) -> int:
    """All that can go now; how many segments."""
    report = (await client.post("/retention", json={"days": 0})).raise_for_status().json()
    async with asyncio.timeout(WAIT):
        while report["state"] == "running":
            await asyncio.sleep(0.02)
            report = (await client.get("/retention")).json()["last"]
    assert report["state"] == "done", report
    return int(report["segments"])


async def test_killed_and_run_again_it_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    """Alone, and once in a server, which goes on with the purge by itself when it is started again."""
    chance = random.Random(3)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    await fill(whole / "data", SEGMENTS)
    assert (await retention(whole, "--days", "365", "--json")).json["segments"] == 0  # projects all
    shutil.copytree(whole, broken)
    assert (await retention(whole, "--days", "30", "--json")).json["segments"] == SEGMENTS
    for _ in range(KILLS):
        process = await started(broken, "-m", "monolith", "retention", "--days", "30")
        await asyncio.sleep(chance.uniform(1.0, 3.0))
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()
    await killed_in_a_server(broken, chance)
    await rebuilt(broken)
    assert (await retention(broken, "--days", "30", "--json")).json["segments"] == 0
    assert await remains(broken) == await remains(whole)


async def killed_in_a_server(folder: Path, chance: random.Random) -> None:
    server = Server(folder, **SETTINGS)
    async with server:
        async with server.client() as client:
            asking = asyncio.create_task(client.post("/retention", json={"days": 30}))
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            await server.kill()
            await asyncio.gather(asking, return_exceptions=True)
        await server.start()
        async with server.client() as client:
            assert await let_go_older(client) == "done"


async def let_go_older(client: httpx.AsyncClient) -> str:
    report = (await client.post("/retention", json={"days": 30})).raise_for_status().json()
    async with asyncio.timeout(WAIT):
        while report["state"] == "running":
            await asyncio.sleep(0.05)
            report = (await client.get("/retention")).json()["last"]
    return str(report["state"])


async def remains(folder: Path) -> tuple[Rows, list[str]]:
    """Rows, without what tells when an expiry was written, and files."""
    found = rows(folder / "data" / "readmodels.db")
    timeless = {"commit_position", "submitted_position", "expired_at"}
    kept: Rows = {}
    for table, (columns, *body) in found.items():
        places = [i for i, column in enumerate(columns) if column not in timeless]
        kept[table] = sorted((tuple(row[i] for i in places) for row in body), key=repr)
    files = (folder / "data" / "videos").rglob("*")
    return kept, sorted(str(path.relative_to(folder)) for path in files if path.is_file())


async def test_clear_frames_as_a_user_runs_it(tmp_path: Path) -> None:
    """From another folder, with a data directory that is relative to it; with and without something there."""
    script = str(ROOT / "clear_frames.py")
    await fill(tmp_path / "mine", 200)
    looked = await run(tmp_path, script, "--days", "30", "--dry-run", "--data-dir", "mine", cwd=tmp_path)
    assert looked.code == 0, looked.errors
    assert "200 segments of 2 videos would go, with 4,800 frames" in looked.output
    cleared = await run(tmp_path, script, "--days", "30.5", "--data-dir=mine", "--json", cwd=tmp_path)
    assert (cleared.json["segments"], cleared.json["segments_purged"]) == (200, 200)
    assert cleared.json["bytes_freed"] > 200 * 24 * 2000
    link = tmp_path / "clear"
    link.symlink_to(script)
    nothing = await run(tmp_path, str(link), "--days", "30", "--data-dir", "other", cwd=tmp_path)
    assert nothing.code == 4, nothing.errors
    assert f"there are no events in {tmp_path / 'other'}" in nothing.errors
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--days", "0"), 2, "--days 0 lets go of all that is analysed; if that is wanted, say --yes"),
        (("--days", "-1"), 2, "--days must be a number from 0 to 36500, not -1.0"),
        (("--days", "soon"), 2, "Invalid value for '--days'"),
        ((), 2, "Missing option '--days'"),
        (("--days", "1", "--keep", "street"), 2, "--keep: 'street' is not the id of a video"),
    ],
)
async def test_wrong_usage(tmp_path: Path, options: tuple[str, ...], code: int, words: str) -> None:
    ended = await retention(tmp_path, *options)
    assert (ended.code, words in ended.errors) == (code, True), ended.errors


async def test_a_wrong_id_to_keep_lets_nothing_go(tmp_path: Path) -> None:
    await fill(tmp_path / "data", 200)
    ended = await retention(tmp_path, "--days", "30", "--keep", "0199aaaa-0000-7000-8000-00000000000f")
    assert ended.code == 3
    assert "keep: there is no video 0199aaaa-0000-7000-8000-00000000000f" in ended.errors
    assert (await retention(tmp_path, "--days", "30", "--dry-run", "--json")).json["segments"] == 200
