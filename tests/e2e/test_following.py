"""Sources that are followed, by the whole program: nginx and GStreamer's RTSP server give the pictures."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monolith.frames.jpeg import decode
from tests.media import sample_clip
from tests.peers.hls import live_hls, make_hls
from tests.peers.nginx import Nginx, nginx
from tests.peers.rtsp import live_mount, rtsp_server
from tests.program import Server, free_port, serving, until_ended, upload
from tests.videos import Recipe, make_video, read_barcode

MODELS = ("color_detection", "objects_detection")
FRAME_STEP = 5
SETTINGS = {
    "PRECISION": "f32",
    "SEGMENT_SECONDS": "2",
    "FETCH_READ_TIMEOUT": "10",
    "FETCH_CONNECT_TIMEOUT": "10",
}
CAMERA = {"/live": live_mount(rate=10)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), **SETTINGS, LIVE_SILENCE="60") as server:
        yield server


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Nginx]:
    async with nginx(tmp_path / "www", tmp_path / "nginx") as serving:
        yield serving


async def start(client: httpx.AsyncClient, url: str, frame_step: int = FRAME_STEP) -> str:
    body = {"videoURL": url, "modelsToRun": list(MODELS), "frameStep": frame_step}
    answer = await client.post("/analysis/start", json=body)
    return str(answer.raise_for_status().json()["video_id"])


async def status(client: httpx.AsyncClient, video_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
    return body


async def until(
    client: httpx.AsyncClient, video_id: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The status when it is as `wanted`. Raises TimeoutError with the last one."""
    body: dict[str, Any] = {}
    try:
        async with asyncio.timeout(90):
            while not wanted(body := await status(client, video_id)):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(body)) from error
    return body


async def rows(client: httpx.AsyncClient, video_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/analysis/{video_id}/results", params={"min_confidence": 0})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


async def events(client: httpx.AsyncClient, video_id: str, event_type: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})
    return [event["data"] for event in answer.raise_for_status().json() if event["event_type"] == event_type]


def findings(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Numbers, relative times (to the millisecond) and results: what does not depend on how the pictures came."""
    first = min(row["video_timestamp"] for row in found)
    return sorted(
        (row["frame_number"], row["inference_model"], round(row["video_timestamp"] - first, 3),
         json.dumps(row["inference_results"]))
        for row in found
    )  # fmt: skip


async def assert_nothing_twice(client: httpx.AsyncClient, video_id: str) -> None:
    stored = Counter(
        frame[0] for event in await events(client, video_id, "FramesStored") for frame in event["frames"]
    )
    judged = Counter(
        (event["model"]["key"], frame[0])
        for event in await events(client, video_id, "FramesAnalysed")
        for frame in event["frames"]
    )
    assert stored and set(stored.values()) == {1}
    assert set(judged) == {(model, number) for model in MODELS for number in stored}
    assert set(judged.values()) == {1}


async def test_a_playlist_with_an_end_gives_what_its_file_gives(
    client: httpx.AsyncClient, web: Nginx
) -> None:
    make_hls(sample_clip("bikes.mp4"), web.root)
    playlist = await start(client, f"{web.url}/index.m3u8")
    file = await upload(client, sample_clip("bikes.mp4"), frame_step=FRAME_STEP, models=MODELS)
    body = await until_ended(client, playlist)
    assert (body["status"], body["transport"], body["live"]) == ("Completed", "hls", False), body["error"]
    assert (body["frames_total"], body["frames_analyzed"], body["coverage"]) == (250, 50, 1.0)
    assert body["runs"][0]["segments"]["closed"] == body["runs"][0]["segments"]["planned"] > 2
    assert (await until_ended(client, file))["status"] == "Completed"
    assert findings(await rows(client, playlist)) == findings(await rows(client, file))


async def test_a_playlist_whose_analysis_is_killed_gives_the_same(tmp_path: Path, web: Nginx) -> None:
    make_hls(sample_clip("bikes.mp4"), web.root)
    async with Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            undisturbed = await start(client, f"{web.url}/index.m3u8")
            await until_ended(client, undisturbed)
            killed = await start(client, f"{web.url}/index.m3u8")
        for frames in (5, 25):
            async with server.client() as client:
                await until(client, killed, lambda body, least=frames: body["frames_analyzed"] >= least)  # type: ignore[misc]
            await server.kill()
            await server.start()
        async with server.client() as client:
            assert (await until_ended(client, killed))["status"] == "Completed"
            assert findings(await rows(client, killed)) == findings(await rows(client, undisturbed))
            await assert_nothing_twice(client, killed)


async def test_a_live_playlist_is_followed_until_it_ends(
    client: httpx.AsyncClient, web: Nginx, tmp_path: Path
) -> None:
    async with live_hls(web.root, tmp_path, keep=40):
        video_id = await start(client, f"{web.url}/live.m3u8")
        await until(client, video_id, lambda body: body["connected"] and body["frames_analyzed"] >= 8)
    body = await until_ended(client, video_id)
    assert (body["status"], body["live"], body["connections"]) == ("Completed", True, 1), body["error"]
    (ended,) = await events(client, video_id, "StreamDisconnected")
    assert ended["reason"] == "the source has ended"
    await assert_nothing_twice(client, video_id)


async def test_no_picture_of_a_live_playlist_is_analysed_twice_whatever_is_killed(
    web: Nginx, tmp_path: Path
) -> None:
    """Its pictures say which they are: 1 to 250, four a second, in segments that stay listed for two minutes."""
    video = make_video(tmp_path, Recipe(frames=250, durations=(250,)))
    async with (
        live_hls(web.root, tmp_path, rate=4, keep=120, of=video),
        Server(tmp_path, **SETTINGS) as server,
    ):
        async with server.client() as client:
            body = {"videoURL": f"{web.url}/live.m3u8", "modelsToRun": ["color_detection"], "frameStep": 1}
            answer = await client.post("/analysis/start", json=body)
            video_id = str(answer.raise_for_status().json()["video_id"])
        for connections in (1, 2):
            await until_more(server, video_id, connections, pictures=8)
            await server.kill()
            await server.start()
        await until_more(server, video_id, 3, pictures=8)
        async with server.client() as client:
            await client.post(f"/analysis/{video_id}/cancel")
            assert (await until_ended(client, video_id))["status"] == "Completed"
            shown = await pictures_of(client, video_id)
            made = (await client.get(f"/analysis/{video_id}/connections")).json()
    # Numbers go on as pictures do: none comes twice or in another order, and none is missing between connections.
    assert len({(picture - number) % 250 for number, picture in shown.items()}) == 1, shown
    firsts = [connection["first_frame"] for connection in made]
    assert len(firsts) == 3 and firsts == sorted(set(firsts))


async def until_more(server: Server, video_id: str, connections: int, *, pictures: int) -> None:
    """Until that many connections were made, and the newest one gave so many pictures that were analysed."""
    async with server.client() as client:
        await until(client, video_id, lambda body: body["connected"] and body["connections"] == connections)
        at_first = (await status(client, video_id))["frames_analyzed"]
        await until(client, video_id, lambda body: body["frames_analyzed"] >= at_first + pictures)


async def pictures_of(client: httpx.AsyncClient, video_id: str) -> dict[int, int]:
    """Frame number → what the stored picture shows, in the order of the numbers."""
    stored = [
        frame[0] for event in await events(client, video_id, "FramesStored") for frame in event["frames"]
    ]
    shown: dict[int, int] = {}
    for number in sorted(stored):
        answer = await client.get(f"/analysis/{video_id}/frame/{number}", params={"annotated": "false"})
        shown[number] = read_barcode(decode(answer.raise_for_status().content))
    return shown


async def test_a_camera_that_is_started_again_is_another_connection(
    server: Server, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    port = free_port()
    async with rtsp_server(CAMERA, tmp_path / "first", port):
        video_id = await start(client, f"rtsp://me:secret@127.0.0.1:{port}/live", 2)
        await until(client, video_id, lambda body: body["frames_analyzed"] >= 6)
    await until(client, video_id, lambda body: not body["connected"])
    async with rtsp_server(CAMERA, tmp_path / "second", port):
        await until(client, video_id, lambda body: body["connections"] == 2)
        before = (await status(client, video_id))["frames_analyzed"]
        await until(client, video_id, lambda body: body["frames_analyzed"] >= before + 6)
        cancelled = (await client.post(f"/analysis/{video_id}/cancel")).raise_for_status().json()
        assert (cancelled["status"], cancelled["stopping"]) == ("Processing", True)
        body = await until_ended(client, video_id)
    assert (body["status"], body["video_url"]) == ("Completed", f"rtsp://***@127.0.0.1:{port}/live")
    first, second = (await client.get(f"/analysis/{video_id}/connections")).json()
    assert second["segment"] > first["segment"]
    assert second["first_frame"] > first["last_frame"] >= 12
    assert second["video_timestamp"] == pytest.approx(second["wall_time"] - first["wall_time"], abs=0.5)
    assert second["reason"] == "ended by the user"
    told = (await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})).text
    assert "secret" not in told + server.output
    await assert_nothing_twice(client, video_id)


async def test_a_camera_whose_analysis_is_killed_goes_on(tmp_path: Path) -> None:
    async with rtsp_server(CAMERA, tmp_path / "rtsp") as port, Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            video_id = await start(client, f"rtsp://127.0.0.1:{port}/live", 2)
            await until(client, video_id, lambda body: body["frames_analyzed"] >= 15)
        await server.kill()
        await server.start()
        async with server.client() as client:
            await until(client, video_id, lambda body: body["connections"] == 2)
            at_start = (await status(client, video_id))["frames_analyzed"]
            await until(client, video_id, lambda body: body["frames_analyzed"] >= at_start + 6)
        assert await server.stop() == 0
        await server.start()
        async with server.client() as client:
            await until(client, video_id, lambda body: body["connections"] == 3 and body["connected"])
            await client.post(f"/analysis/{video_id}/cancel")
            assert (await until_ended(client, video_id))["status"] == "Completed"
            await assert_nothing_twice(client, video_id)
            broken = await events(client, video_id, "StreamDisconnected")
        assert [event["reason"] for event in broken][:2] == ["the program was interrupted"] * 2


async def test_a_camera_that_stays_silent_has_ended(tmp_path: Path) -> None:
    async with (
        Server(tmp_path, **SETTINGS, LIVE_SILENCE="8") as server,
        server.client() as client,
    ):
        port = free_port()
        async with rtsp_server(CAMERA, tmp_path / "rtsp", port):
            video_id = await start(client, f"rtsp://127.0.0.1:{port}/live", 2)
            await until(client, video_id, lambda body: body["frames_analyzed"] >= 3)
        body = await until_ended(client, video_id)
        assert body["status"] == "Completed"
        (ended,) = await events(client, video_id, "SourceEnded")
        assert ended["reason"].startswith("no picture came for 8 s: ")
        never = await start(client, f"rtsp://127.0.0.1:{port}/live", 2)
        failed = await until_ended(client, never)
        assert failed["status"] == "Failed"
        assert failed["error"].startswith("the source gave no picture within 8 s: ")


async def test_the_command_line_follows_a_camera_until_ctrl_c(tmp_path: Path) -> None:
    async with rtsp_server(CAMERA, tmp_path / "rtsp") as port:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "monolith", "analyze", f"rtsp://127.0.0.1:{port}/live", "--models", "color",
            "--frame-step", "5", "--json", "--data-dir", str(tmp_path / "data"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        packs = tmp_path / "data" / "videos"
        await _until(lambda: any(path.stat().st_size for path in packs.glob("*/packs/*.mjpeg")))
        await asyncio.sleep(1)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(90):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert "the live source is ended" in " ".join(errors.decode().split())
    (report,) = json.loads(output)["videos"]
    assert (report["exit_code"], report["analysis"]["status"]) == (0, "Completed")
    assert report["found"]["frames"] == report["analysis"]["frames_analyzed"] > 0


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.1)
