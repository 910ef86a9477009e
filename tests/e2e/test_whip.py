"""WebRTC publishers with the whole program: headless Chromium with a camera, FFmpeg's WHIP muxer in PyAV."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import simplejpeg
from aiortc import RTCSessionDescription

from monolith.live.feeds import GROUP_SECONDS
from tests.e2e.files import http_server
from tests.integration.test_webrtc_publishers import RATE, Publisher
from tests.media import sample_clip
from tests.peers.chromium import Chromium, Page, camera_file, chromium
from tests.peers.processes import running
from tests.peers.whip import PAGE_SCRIPT, call
from tests.program import Server, free_port, serving, until_ended

CLIP = sample_clip("bikes.mp4")
PAGE_PORT = free_port()
SIZE = {"width": 640, "height": 272}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Pages of one other origin may use it; a publisher that goes without a word is waited for."""
    with serving(
        tmp_path_factory.mktemp("server"),
        PRECISION="f32",
        LIVE_SILENCE="60",
        CORS_ORIGINS=f"http://localhost:{PAGE_PORT}",
    ) as server:
        yield server
    assert "never retrieved" not in server.output


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Chromium]:
    """Its camera plays the clip."""
    camera = await asyncio.to_thread(camera_file, CLIP, folder / "camera.y4m")
    async with chromium(folder / "browser", camera=camera) as started:
        yield started


@asynccontextmanager
async def page_of(browser: Chromium, folder: Path) -> AsyncIterator[Page]:
    """The test's page, of another origin than the program."""
    (folder / "publish.html").write_text(f"<!doctype html><script>{PAGE_SCRIPT}</script>")
    async with (
        http_server(folder, port=PAGE_PORT),
        browser.page(f"http://localhost:{PAGE_PORT}/publish.html") as page,
    ):
        yield page


async def endpoint(client: httpx.AsyncClient, frame_step: int = 5) -> dict[str, Any]:
    body = {"modelsToRun": ["objects_detection"], "frameStep": frame_step, "videoName": "camera"}
    answer = await client.post("/analysis/webrtc-endpoint", json=body)
    made: dict[str, Any] = answer.raise_for_status().json()
    return made


async def until_analysed(client: httpx.AsyncClient, video_id: str, frame: int, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            video = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
            if video["greatest_frame_analyzed"] >= frame:
                return
            await asyncio.sleep(0.1)


async def until_said(client: httpx.AsyncClient, metric: str, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while metric not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.1)


async def labels(client: httpx.AsyncClient, video_id: str) -> set[str]:
    rows = (await client.get(f"/analysis/{video_id}/results")).raise_for_status().json()
    return {one["label"] for row in rows for one in row["inference_results"]}


async def first_analysed(client: httpx.AsyncClient, video_id: str) -> int:
    rows = (await client.get(f"/analysis/{video_id}/results")).raise_for_status().json()
    return min(int(row["frame_number"]) for row in rows)


async def size_of(client: httpx.AsyncClient, video_id: str, frame: int) -> tuple[int, int]:
    jpeg = (await client.get(f"/analysis/{video_id}/frame/{frame}")).raise_for_status().content
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    return width, height


async def connections(client: httpx.AsyncClient, video_id: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (await client.get(f"/analysis/{video_id}/connections")).json()
    return answer


async def until_sending(page: Page, width: int) -> None:
    """Pictures of that width. Raises TimeoutError with what it sends."""
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(60):
            while (status.get("state"), status.get("width")) != ("connected", width):
                status = await page.run("sent()")
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(status)) from error


async def test_a_browsers_camera_is_analysed_also_when_its_size_changes(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    made = await endpoint(client)
    video_id = made["video_id"]
    async with browser(tmp_path) as chrome, page_of(chrome, tmp_path) as page:
        answered = await page.run(call("publish", made["whip_endpoint"], made["token"], SIZE))
        assert answered["status"] == 201, answered
        await until_analysed(client, video_id, 25)
        await until_sending(page, 640)
        await page.run(call("scale", 2))
        await until_sending(page, 320)
        seen = (await client.get(f"/analysis/{video_id}")).json()["greatest_frame_analyzed"]
        await until_analysed(client, video_id, seen + 50)
        assert await page.run("window.patched") == 204, "a trickled candidate is taken"
        deleted = await page.run(
            "fetch(publishing.session, {method: 'DELETE', headers: publishing.headers}).then((one) => one.status)"
        )
        assert deleted == 200
    video = await until_ended(client, video_id, 60)
    assert (video["status"], video["error"], video["connections"]) == ("Completed", None, 1)
    assert {"person", "bicycle"} & await labels(client, video_id)
    last = video["greatest_frame_analyzed"]
    first = await first_analysed(client, video_id)  # a busy machine may drop those before it
    assert await size_of(client, video_id, first) == (640, 272)
    assert await size_of(client, video_id, last) == (320, 136)


async def test_a_browser_that_is_killed_may_come_again(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await endpoint(client)
    video_id = made["video_id"]
    for round_number in (1, 2):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        async with browser(folder) as chrome, page_of(chrome, folder) as page:
            answered = await page.run(call("publish", made["whip_endpoint"], made["token"], SIZE))
            assert answered["status"] == 201, answered
            async with asyncio.timeout(60):
                while len(await connections(client, video_id)) < round_number:
                    await asyncio.sleep(0.1)
            video = (await client.get(f"/analysis/{video_id}")).json()
            await until_analysed(client, video_id, video["greatest_frame_analyzed"] + 25)
            await chrome.kill()
        async with asyncio.timeout(120):
            while (await connections(client, video_id))[-1]["ended"] is None:
                await asyncio.sleep(0.1)
    first, second = await connections(client, video_id)
    assert first["segment"] < second["segment"]
    assert first["last_frame"] < second["first_frame"]
    (await client.post(f"/analysis/{video_id}/cancel")).raise_for_status()
    assert (await until_ended(client, video_id))["status"] == "Completed"
    again = await client.post(
        f"/whip/{video_id}",
        content="v=0",
        headers={"Authorization": f"Bearer {made['token']}", "Content-Type": "application/sdp"},
    )
    assert again.status_code in (401, 410)


async def test_a_page_that_is_left_ends_its_video(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """By the program's own page: its DELETE needs no preflight, which a browser does not wait for any more."""
    made = await endpoint(client)
    async with browser(tmp_path) as chrome, chrome.page(str(client.base_url)) as page:
        await page.run(PAGE_SCRIPT + ";Object.assign(window, {publish, sent}), 0")
        answered = await page.run(call("publish", made["whip_endpoint"], made["token"], SIZE))
        assert answered["status"] == 201, answered
        await until_analysed(client, made["video_id"], 10)
        await page.go("about:blank")
        video = await until_ended(client, made["video_id"], 60)
    assert video["status"] == "Completed"
    assert (await connections(client, made["video_id"]))[-1]["reason"] == "the source has ended"


@asynccontextmanager
async def pushing(
    made: dict[str, Any], folder: Path, seconds: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """FFmpeg's WHIP muxer, H.264."""
    folder.mkdir(exist_ok=True)
    arguments = [made["whip_endpoint"], made["token"], str(CLIP), str(seconds), str(folder)]
    async with running(
        [sys.executable, "-m", "tests.peers.whip", *arguments], folder / "push.log"
    ) as process:
        yield process


async def test_ffmpeg_publishes_h264_and_no_picture_is_missing(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    made = await endpoint(client)
    async with pushing(made, tmp_path, seconds=5) as process:
        video = await until_ended(client, made["video_id"], 60)
        assert await process.wait() == 0, (tmp_path / "push.log").read_text()
    pushed = int((tmp_path / "push.log").read_text().split()[-1])
    assert (video["status"], video["media"]["codec"]) == ("Completed", "h264")
    assert video["frames_total"] == pushed == 125
    assert video["frames_sampled"] == video["frames_analyzed"] + video["frames_dropped"] == pushed // 5
    assert {"person", "bicycle"} & await labels(client, made["video_id"])


async def test_a_second_publisher_is_refused_and_the_first_goes_on(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    made = await endpoint(client)
    async with pushing(made, tmp_path / "first", seconds=90), pushing(made, tmp_path / "late", seconds=90):
        await until_said(client, 'webrtc_refusals_total{reason="busy"} 1')
        await until_analysed(client, made["video_id"], 25)
        seen = (await client.get(f"/analysis/{made['video_id']}")).json()["greatest_frame_analyzed"]
        await until_analysed(client, made["video_id"], seen + 25)
        assert (await client.delete(f"/analysis/{made['video_id']}")).status_code == 204
        await until_said(client, 'webrtc_publishers{state="connected"} 0')


async def test_the_program_ends_while_someone_publishes(tmp_path: Path) -> None:
    async with Server(tmp_path, PRECISION="f32") as server, server.client() as client:
        made = await endpoint(client)
        async with pushing(made, tmp_path / "push", seconds=60):
            await until_analysed(client, made["video_id"], 10)
            assert await server.stop() == 0
            assert "Traceback" not in server.output
            await server.start()
            video = (await client.get(f"/analysis/{made['video_id']}")).json()
            assert (video["status"], video["connected"]) == ("Processing", False)
        async with pushing(made, tmp_path / "again", seconds=3):
            video = await until_ended(client, made["video_id"], 60)
        assert (video["status"], video["connections"]) == ("Completed", 2)


SDP = {"Content-Type": "application/sdp"}


@pytest.mark.parametrize(
    ("token", "headers", "body", "status"),
    [
        ("", SDP, "v=0", 401),
        ("wrong", SDP, "v=0", 401),
        ("other", SDP, "v=0", 403),
        ("right", {"Content-Type": "application/json"}, "{}", 415),
        ("right", {**SDP, "Accept": "text/html"}, "v=0", 406),
        ("right", SDP, "garbage", 400),
        ("right", SDP, "v=0\r\n", 400),
        ("right", SDP, "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", 400),
        ("right", SDP, "v=0\r\n" + "a=x\r\n" * 20_000, 413),
    ],
)
async def test_wrong_requests_are_refused_with_a_reason(
    client: httpx.AsyncClient, token: str, headers: dict[str, str], body: str, status: int
) -> None:
    made = await endpoint(client)
    tokens = {"right": made["token"], "wrong": "nonsense", "other": (await endpoint(client))["token"]}
    shown = {"Authorization": f"Bearer {tokens[token]}"} if token else {}
    answer = await client.post(f"/whip/{made['video_id']}", content=body, headers={**headers, **shown})
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["detail"]
    assert made["token"] not in answer.text
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await client.get(f"/analysis/{made['video_id']}")).json()["status"] == "Pending"


async def test_an_endpoint_says_what_it_takes(client: httpx.AsyncClient) -> None:
    made = await endpoint(client)
    options = await client.options(f"/whip/{made['video_id']}")
    assert (options.status_code, options.headers["accept-post"]) == (200, "application/sdp")
    assert (await client.get(f"/whip/{made['video_id']}")).status_code == 405
    origin = f"http://localhost:{PAGE_PORT}"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,if-match,content-type",
    }
    preflight = await client.options(f"/whip/{made['video_id']}/x", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin


async def test_a_decoder_that_is_killed_is_followed_by_another(
    server: Server, client: httpx.AsyncClient
) -> None:
    """Who publishes sends no keyframe unless asked, and the first one is longer ago than pictures are kept."""
    made = await endpoint(client)
    async with Publisher() as publisher:
        bearer = {"Authorization": f"Bearer {made['token']}"}
        answer = await client.post(
            f"/whip/{made['video_id']}", content=await publisher.offer(), headers={**SDP, **bearer}
        )
        await publisher.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await until_analysed(client, made["video_id"], 1)
        await until_sent(publisher, GROUP_SECONDS + 1)
        before = (await client.get(f"/analysis/{made['video_id']}")).json()["greatest_frame_analyzed"]
        for pid, kind in server.children().items():
            if kind == "decoder":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await until_analysed(client, made["video_id"], before + 60)
        video = (await client.get(f"/analysis/{made['video_id']}")).json()
        assert video["status"] == "Processing" and video["connected"]
    await client.delete(f"/analysis/{made['video_id']}")


async def until_sent(publisher: Publisher, seconds: float) -> None:
    """Pictures of so many seconds."""
    async with asyncio.timeout(60):
        while publisher.track.number < seconds * RATE:
            await asyncio.sleep(0.1)


async def test_a_session_is_trickled_to_and_deleted_by_its_publisher_alone(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    made = await endpoint(client)
    async with Publisher() as publisher:
        right = {"Authorization": f"Bearer {made['token']}"}
        answer = await client.post(
            f"/whip/{made['video_id']}", content=await publisher.offer(), headers={**SDP, **right}
        )
        assert answer.status_code == 201
        session, tag = answer.headers["location"], answer.headers["etag"]
        fragment = {"Content-Type": "application/trickle-ice-sdpfrag"}
        candidate = "a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host\r\n"
        tries = [
            ({**fragment, **right, "If-Match": tag}, candidate, 204),
            ({**fragment, **right, "If-Match": tag}, "garbage", 400),
            ({**fragment, **right, "If-Match": '"other"'}, candidate, 412),
            ({**fragment, **right}, candidate, 428),
            ({**fragment, **right, "If-Match": "*"}, candidate, 422),
            ({**SDP, **right, "If-Match": tag}, candidate, 415),
            ({**fragment, "If-Match": tag}, candidate, 401),
        ]
        for headers, body, status in tries:
            patched = await client.patch(session, content=body, headers=headers)
            assert patched.status_code == status, patched.text
        assert (await client.delete(session)).status_code == 401
        assert (await client.delete(session + "x", headers=right)).status_code == 404
        assert (await client.delete(session, headers=right)).status_code == 200
        async with asyncio.timeout(60):
            while (await client.delete(session, headers=right)).status_code not in (401, 404, 410):
                await asyncio.sleep(0.05)
