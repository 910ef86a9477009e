"""The running program counts what it finds, while it finds it, killed or not; its commands say the same."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.retention import fill
from monolith.bootstrap.reading import reading_alone
from monolith.readmodels.export import Row, detections_table
from monolith.settings import Settings
from tests.integration.test_cli import run as run_command
from tests.media import sample_clip
from tests.program import Server, until_ended, upload
from tests.unit.readmodels.segments import files_below

SETTINGS = {"PRECISION": "f32", "SEGMENT_SECONDS": "1"}
FRAME_STEP = 5
FRAMES = 250 // FRAME_STEP
KILLS = 2


async def rows(client: httpx.AsyncClient, video_id: str) -> pl.DataFrame:
    answer = (await client.get(f"/analysis/{video_id}/results")).raise_for_status()
    return detections_table(msgspec.json.decode(answer.content, type=list[Row]))


async def parquet(client: httpx.AsyncClient, video_id: str) -> pl.DataFrame:
    answer = await client.get(f"/analysis/{video_id}/results", params={"format": "parquet"})
    return pl.read_parquet(io.BytesIO(answer.raise_for_status().content)).drop("run_id")


async def document(client: httpx.AsyncClient, path: str, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(path, params=parameters)).raise_for_status().json()
    return found


async def until_files(client: httpx.AsyncClient, timeout: float = 90) -> None:
    """The analytics files have caught up."""
    async with asyncio.timeout(timeout):
        while True:
            text = (await client.get("/metrics")).text
            if 'video_analysis_projection_lag_events{projection="analytics"} 0.0' in text:
                return
            await asyncio.sleep(0.05)


async def rebuilt(client: httpx.AsyncClient, timeout: float = 90) -> None:
    (await client.post("/rebuild", params={"projection": "analytics"})).raise_for_status()
    async with asyncio.timeout(timeout):
        while (status := await document(client, "/rebuild"))["state"] == "running":
            await asyncio.sleep(0.05)
    assert status["state"] == "completed", status


async def test_killed_while_it_analyses_it_counts_each_frame_once(tmp_path: Path) -> None:
    """Every answer on the way is whole: what the rows show, as far as they are."""
    async with Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP)
        for _ in range(KILLS):
            await asyncio.sleep(0.8)
            await server.kill()
            await server.start()
            async with server.client() as client:
                found = await document(client, f"/analysis/{video_id}/timeline", bucket=1)
                frames = [bucket["frames"] for bucket in found["buckets"]]
                assert sum(frames) <= FRAMES
                assert max(frames, default=0) <= 5
        async with server.client() as client:
            assert (await until_ended(client, video_id))["status"] == "Completed"
            await until_files(client)
            assert_frame_equal(await parquet(client, video_id), await rows(client, video_id))
            found = await document(client, f"/analysis/{video_id}/timeline", bucket=1)
            assert [bucket["frames"] for bucket in found["buckets"]] == [5] * 10
            before = files_below(tmp_path / "data" / "analytics")
            assert len(before) > 1
            await rebuilt(client)
            assert files_below(tmp_path / "data" / "analytics") == before
            assert await document(client, f"/analysis/{video_id}/timeline", bucket=1) == found
            (await client.delete(f"/analysis/{video_id}")).raise_for_status()
            await until_files(client)
            assert files_below(tmp_path / "data" / "analytics") == {}


async def test_retention_without_a_server_takes_expired_segments_out_of_groups(tmp_path: Path) -> None:
    """What is old goes, in groups or not; the video of today keeps its files as they are."""
    videos = await fill(tmp_path / "data", 120)
    settings = Settings(data_dir=tmp_path / "data", min_free_bytes=0)
    async with reading_alone(settings) as app:
        async with asyncio.timeout(60):
            while (await app.state.services.analytics.counts())[0] < sum(video.segments for video in videos):
                await asyncio.sleep(0.05)
    files = files_below(tmp_path / "data" / "analytics")
    assert sum("/group-" in name for name in files) > 1
    done = await run_command(tmp_path, "retention", "--days", "1", "--json")
    assert done.code == 0, done.err
    left = files_below(tmp_path / "data" / "analytics")
    assert {name.partition("/")[0] for name in left} == {videos[-1].video_id}
    assert left == {name: content for name, content in files.items() if name in left}


async def test_commands_say_what_the_server_says_with_it_and_without_it(tmp_path: Path) -> None:
    async with Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP)
            await until_ended(client, video_id)
            expected = [
                await document(client, f"/analysis/{video_id}/timeline", bucket=2),
                await document(client, f"/analysis/{video_id}/summary"),
                (await client.get(f"/analysis/{video_id}/results")).json(),
                (await client.get(f"/analysis/{video_id}/results", params={"format": "csv"})).text,
            ]
        through_server = await commands(tmp_path, video_id)
    for found in (through_server, await commands(tmp_path, video_id)):
        for row in (*found[2], *expected[2]):
            row.pop("frames_url")  # without a server there is no address
        assert found == expected
        expected[2] = [dict(row, frames_url="") for row in expected[2]]


async def commands(folder: Path, video_id: str) -> list[Any]:
    """What the commands say: timeline, summary, rows, CSV."""
    timeline = await run_command(folder, "timeline", video_id, "--bucket", "2", "--json")
    summary = await run_command(folder, "summary", video_id, "--json")
    exports = [await run_command(folder, "export", video_id, "--out", name) for name in ("a.json", "a.csv")]
    assert [(done.code, done.err) for done in (timeline, summary)] == [(0, "")] * 2
    assert [done.code for done in exports] == [0, 0]
    return [
        json.loads(timeline.out),
        json.loads(summary.out),
        json.loads((folder / "a.json").read_text()),
        (folder / "a.csv").read_text(),
    ]
