"""Live sources that are pulled, spread over copies of the program; another copy goes on where one is killed."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx

from monolith.frames.jpeg import decode
from tests.e2e.copies import Copies, assert_nothing_twice, claimants, copies, events_of, until
from tests.peers.hls import live_hls
from tests.peers.nginx import nginx
from tests.peers.rtsp import live_mount, rtsp_server
from tests.program import Server, until_ended
from tests.videos import Recipe, make_video, read_barcode

SETTINGS = {"SEGMENT_SECONDS": "2", "LIVE_SILENCE": "90"}
CAMERAS = [f"/camera-{number}" for number in range(4)]


async def test_cameras_are_spread_and_taken_over_from_a_copy_that_is_killed(tmp_path: Path) -> None:
    mounts = {path: live_mount(rate=10) for path in CAMERAS}
    async with (
        rtsp_server(mounts, tmp_path / "rtsp") as port,
        copies(tmp_path, 2, None, **SETTINGS) as running,
    ):
        async with running.servers[0].client() as client:
            videos = [await start(client, f"rtsp://127.0.0.1:{port}{path}") for path in CAMERAS]
        for video_id in videos:
            await until_more(running.servers, video_id, connection=1)
        followed = {video_id: await follower_of(running, video_id) for video_id in videos}
        assert len(set(followed.values())) == 2, followed
        killed = followed[videos[0]]
        [left] = [server for server in running.servers if server is not killed]
        await killed.kill()
        moved = [video_id for video_id in videos if followed[video_id] is killed]
        for video_id in moved:
            await until_more([left], video_id, connection=2)
        async with left.client() as client:
            for video_id in videos:
                await end(client, video_id)
            for video_id in videos:
                await assert_goes_on(client, video_id, connections=2 if video_id in moved else 1)
        assert "Traceback" not in left.output
        await killed.start()


async def test_another_copy_goes_on_at_the_next_picture_of_a_playlist(tmp_path: Path) -> None:
    """Its pictures say which they are: 1 to 600, ten a second, in segments that stay listed for a minute."""
    video = make_video(tmp_path, Recipe(frames=600, durations=(100,)))
    async with (
        nginx(tmp_path / "www", tmp_path / "nginx") as web,
        live_hls(web.root, tmp_path, rate=10, keep=60, of=video),
        copies(tmp_path, 2, None, **SETTINGS) as running,
    ):
        async with running.servers[0].client() as client:
            video_id = await start(client, f"{web.url}/live.m3u8", frame_step=1)
        await until_more(running.servers, video_id, connection=1)
        killed = await follower_of(running, video_id)
        [left] = [server for server in running.servers if server is not killed]
        await killed.kill()
        await until_more([left], video_id, connection=2)
        async with left.client() as client:
            await end(client, video_id)
            await assert_goes_on(client, video_id, connections=2)
            shown = await pictures_of(client, video_id)
            _, second = (await client.get(f"/analysis/{video_id}/connections")).json()
        steps = [later - earlier for earlier, later in itertools.pairwise(shown.values())]
        assert min(steps) >= 1, "a picture was analysed twice"
        last = max(number for number in shown if number < second["first_frame"])
        assert shown[second["first_frame"]] == shown[last] + 1
        await killed.start()


async def start(client: httpx.AsyncClient, url: str, frame_step: int = 2) -> str:
    body = {"videoURL": url, "modelsToRun": ["color_detection"], "frameStep": frame_step}
    return str((await client.post("/analysis/start", json=body)).raise_for_status().json()["video_id"])


async def until_more(servers: list[Server], video_id: str, *, connection: int) -> None:
    """Until all of `servers` tell of ten pictures of this connection that were analysed."""
    for server in servers:
        async with server.client() as client:
            await until(lambda client=client: has_pictures(client, video_id, connection), timeout=90)  # type: ignore[misc]


async def has_pictures(client: httpx.AsyncClient, video_id: str, connection: int) -> bool:
    answer = await client.get(f"/analysis/{video_id}/connections")
    if answer.status_code != 200 or len(answer.json()) != connection:
        return False
    first = int(answer.json()[-1]["first_frame"])
    rows: list[dict[str, Any]] = (
        await client.get(f"/analysis/{video_id}/results", params={"min_confidence": 0})
    ).json()
    return len([row for row in rows if row["frame_number"] >= first]) >= 10


async def follower_of(running: Copies, video_id: str) -> Server:
    """The copy that claimed its segments; it is one."""
    async with running.servers[0].client() as client:
        [owner] = claimants(await events_of(client, video_id))
    [server] = [server for server in running.servers if owner.split("/")[1] == str(server.pid)]
    return server


async def end(client: httpx.AsyncClient, video_id: str) -> None:
    (await client.post(f"/analysis/{video_id}/cancel")).raise_for_status()
    body = await until_ended(client, video_id)
    assert body["status"] == "Completed", body["error"]


async def assert_goes_on(client: httpx.AsyncClient, video_id: str, *, connections: int) -> None:
    """Segments follow one another, frame numbers rise, in every connection behind those of the one before."""
    made = (await client.get(f"/analysis/{video_id}/connections")).json()
    assert len(made) == connections
    for before, after in itertools.pairwise(made):
        assert before["reason"] == "the program was interrupted"
        assert after["segment"] > before["segment"]
        assert after["first_frame"] > before["last_frame"]
    events = await events_of(client, video_id)
    assert_nothing_twice(events)
    planned = [plan["segment"] for plans in data_of(events, "SegmentsPlanned", "segments") for plan in plans]
    assert planned == list(range(len(planned)))
    stored = [frame[0] for frames in data_of(events, "FramesStored", "frames") for frame in frames]
    assert stored == sorted(set(stored))
    assert len(claimants(events)) == connections


def data_of(events: list[dict[str, Any]], event_type: str, field: str) -> list[Any]:
    return [event["data"][field] for event in events if event["event_type"] == event_type]


async def pictures_of(client: httpx.AsyncClient, video_id: str) -> dict[int, int]:
    """Frame number → what the stored picture shows, in the order of the numbers."""
    stored = [
        frame[0]
        for frames in data_of(await events_of(client, video_id), "FramesStored", "frames")
        for frame in frames
    ]

    async def shown(number: int) -> int:
        answer = await client.get(f"/analysis/{video_id}/frame/{number}", params={"annotated": "false"})
        return read_barcode(await asyncio.to_thread(decode, answer.raise_for_status().content))

    return {number: await shown(number) for number in sorted(stored)}
