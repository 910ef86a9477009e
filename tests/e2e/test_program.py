"""The life of the program: one owner a data directory, a full disk, deletion, shutdown, orphans."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload
from tests.videos import make_video


async def test_a_second_server_on_the_same_data_directory_is_refused(server: Server) -> None:
    environment = {
        **os.environ,
        "VIDEO_ANALYSIS_DATA_DIR": str(server.folder / "data"),
        "VIDEO_ANALYSIS_PORT": "0",
    }
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "monolith", "serve"],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 4
    assert "is in use" in second.stderr.replace("\n", " ")
    assert "Traceback" not in second.stderr


async def test_a_deleted_video_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    async with server.client() as client:
        video_id = await upload(client, make_video(tmp_path), models=("color_detection",))
        await until_ended(client, video_id)
        folder = server.folder / "data" / "videos" / video_id
        assert list(folder.rglob("*.mjpeg"))
        assert (await client.delete(f"/analysis/{video_id}")).status_code in (200, 202, 204)
        assert (await client.get(f"/analysis/{video_id}")).status_code == 404
        async with asyncio.timeout(60):
            while folder.exists():
                await asyncio.sleep(0.05)


async def test_sources_go_when_they_are_no_longer_needed(server: Server, tmp_path: Path) -> None:
    async with server.client() as client:
        video_id = await upload(client, make_video(tmp_path), models=("color_detection",))
        await until_ended(client, video_id)
    async with asyncio.timeout(60):
        while list((server.folder / "data" / "uploads").iterdir()):
            await asyncio.sleep(0.05)


async def test_cancelling_ends_the_analysis_and_keeps_what_is_there(server: Server) -> None:
    async with server.client() as client:
        video_id = await upload(client, sample_clip("bikes.mp4"))
        async with asyncio.timeout(60):
            while (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"] == 0:
                await asyncio.sleep(0.02)
        assert (await client.post(f"/analysis/{video_id}/cancel")).status_code in (200, 202)
        body = await until_ended(client, video_id)
        assert body["status"] == "Failed"
        assert "cancelled" in body["error"]
        rows = await result_rows(client, video_id)
        assert 0 < len(rows) < 750
        again = await client.post(f"/analysis/{video_id}/cancel")
        assert again.status_code == 409


async def test_work_goes_on_after_a_clean_restart(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        async with server.client() as client:
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=4)
        await asyncio.sleep(1)
        assert await server.stop() == 0
        await server.start()
        async with server.client() as client:
            body = await until_ended(client, video_id)
        assert (body["status"], body["frames_analyzed"]) == ("Completed", 62)
    assert "Traceback" not in server.output


async def test_no_child_outlives_a_killed_program(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        async with server.client() as client:
            await upload(client, sample_clip("bikes.mp4"))
        await asyncio.sleep(0.5)
        children = server.children()
        assert set(children.values()) >= {"worker"}
        await server.kill()
        async with asyncio.timeout(60):
            while any(Path(f"/proc/{pid}").exists() for pid in children):
                await asyncio.sleep(0.05)
        await server.start()


async def test_many_videos_share_the_machine_fairly(server: Server, tmp_path: Path) -> None:
    """Small videos do not wait for a big one that came first."""
    async with server.client() as client:
        clips = [make_video(tmp_path, name=f"v{number}") for number in range(6)]
        big = await upload(client, sample_clip("bikes.mp4"), models=("color_detection", "objects_detection"))
        uploads = (upload(client, clip, frame_step=20, models=("color_detection",)) for clip in clips)
        videos = [*await asyncio.gather(*uploads), big]
        bodies = await asyncio.gather(*(until_ended(client, video_id) for video_id in videos))
        assert {body["status"] for body in bodies} == {"Completed"}
        ends = [await end_of(client, video_id) for video_id in videos]
        assert max(ends) == ends[-1]


async def end_of(client: httpx.AsyncClient, video_id: str) -> int:
    """The commit position at which it was complete."""
    events = (await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})).json()
    (end,) = (event["commit_position"] for event in events if event["event_type"] == "RunCompleted")
    return int(end)


async def test_events_tell_the_whole_story(client: httpx.AsyncClient, tmp_path: Path) -> None:
    video_id = await upload(client, make_video(tmp_path), models=("color_detection",))
    await until_ended(client, video_id)
    events = (await client.get(f"/analysis/{video_id}/events")).json()
    assert [event["event_type"] for event in events][:4] == [
        "VideoSubmitted", "RunRequested", "VideoProbed", "SegmentsPlanned",
    ]  # fmt: skip
    assert events[-1]["event_type"] == "RunCompleted"
