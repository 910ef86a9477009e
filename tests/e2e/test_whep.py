"""Watching a live video in a browser: FFmpeg publishes by RTMP to the whole program, Chromium plays by WHEP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from monolith.frames.jpeg import decode
from tests.peers import whip
from tests.peers.chromium import Chromium, Page, camera_file, chromium
from tests.peers.rtmp import ffmpeg_to, publish_enhanced
from tests.peers.whep import PAGE_SCRIPT, Viewer
from tests.program import Server, serving
from tests.videos import Recipe, make_video, read_barcode

PICTURES = 100
BODY = {"modelsToRun": ["color_detection"], "frameStep": 5}
CLIP = Recipe(frames=PICTURES, gop=25, width=320, height=240)
B_FRAMES = Recipe(frames=PICTURES, gop=25, b_frames=2, width=320, height=240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("server"), PRECISION="f32", SEGMENT_SECONDS="5", RTMP_PORT="0"
    ) as server:
        yield server


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path / "chromium") as running:
        yield running


@asynccontextmanager
async def published(client: httpx.AsyncClient, recipe: Recipe, folder: Path) -> AsyncIterator[str]:
    """The id of a video that FFmpeg publishes, again and again: frame n shows n, beginning anew after 100."""
    made = (await client.post("/analysis/rtmp-endpoint", json=BODY)).raise_for_status().json()
    clip = make_video(folder, recipe)
    async with ffmpeg_to(made["rtmp_endpoint"], clip, folder / "ffmpeg.log", loop=True):
        await until_connected(client, made["video_id"])
        yield made["video_id"]
    await client.delete(f"/analysis/{made['video_id']}")


async def until_connected(client: httpx.AsyncClient, video_id: str) -> None:
    async with asyncio.timeout(90):
        while not (await client.get(f"/analysis/{video_id}")).json().get("connected"):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watching(browser: Chromium, server: Server, path: str) -> AsyncIterator[Page]:
    async with browser.page(server.url + "/docs") as page:
        await page.run(PAGE_SCRIPT + ";0")
        answer = await page.run(f"watch({json.dumps(server.url + path)})")
        assert answer == {"status": 201}
        yield page


async def until_seen(page: Page, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the page has seen, when it is as `wanted`. Raises TimeoutError with the last of it."""
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(90):
            while not wanted(seen := await page.run("seen()")):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(seen)[:3000]) from error
    return seen


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


def results(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages with results whose picture was shown, each with the number that it showed."""
    numbers = {one["rtpTimestamp"]: one["number"] for one in seen["pictures"]}
    found = [one for one in seen["messages"] if one["type"] == "results"]
    return [
        one | {"shown": numbers[one["rtp_timestamp"]]} for one in found if one["rtp_timestamp"] in numbers
    ]


def assert_mostly_right(pairs: list[tuple[int | None, int]]) -> None:
    """What the page saw is what it should: three of four, since a browser that was held up puts the next picture on the
    screen when the first is looked at. Were times off by one picture, none would be right."""
    assert pairs
    assert sum(seen == right for seen, right in pairs) >= 0.75 * len(pairs), pairs


@pytest.mark.parametrize("recipe", [CLIP, B_FRAMES], ids=["passed through", "encoded"])
async def test_results_belong_to_the_picture_that_the_browser_shows(
    server: Server, client: httpx.AsyncClient, browser: Chromium, tmp_path: Path, recipe: Recipe
) -> None:
    async with (
        published(client, recipe, tmp_path) as video_id,
        watching(browser, server, f"/whep/{video_id}") as behind,
        watching(browser, server, f"/whep/{video_id}") as shown,
    ):
        seen = await until_seen(shown, lambda seen: len(results(seen)) >= 8 and seen["decoded"] > 30)
        assert (await until_seen(behind, lambda seen: seen["decoded"] > 20))["codec"] == "video/H264"
        assert await metric(client, "video_analysis_live_encoders") == (recipe is B_FRAMES)
        assert await metric(client, "video_analysis_viewers") == 2
    async with asyncio.timeout(60):
        while await metric(client, "video_analysis_viewers"):
            await asyncio.sleep(0.1)
    assert await metric(client, "video_analysis_live_encoders") == 0
    legible = [one["number"] for one in seen["pictures"] if one["number"] is not None]
    assert len(legible) > 0.9 * len(seen["pictures"]) and all(1 <= number <= PICTURES for number in legible)
    found = [one for one in results(seen) if one["shown"] is not None]
    assert_mostly_right([(one["shown"], (one["frame_number"] - 1) % PICTURES + 1) for one in found])
    assert {one["inference_model"] for one in found} == {"Color Palette Detection"}


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "libsvtav1"])
async def test_codecs_that_browsers_do_not_take_are_encoded(
    server: Server, client: httpx.AsyncClient, tmp_path: Path, codec: str
) -> None:
    clip = make_video(tmp_path, Recipe(codec=codec, frames=4 * PICTURES, gop=25, width=320, height=240))
    made = (await client.post("/analysis/rtmp-endpoint", json=BODY)).raise_for_status().json()
    publishing = asyncio.create_task(asyncio.to_thread(publish_enhanced, made["rtmp_endpoint"], clip))

    async def signal(offer: str) -> str:
        path, headers = f"/whep/{made['video_id']}", {"Content-Type": "application/sdp"}
        return (await client.post(path, content=offer, headers=headers)).raise_for_status().text

    async with Viewer() as viewer:
        await until_connected(client, made["video_id"])
        await viewer.watch(signal)
        shown = [await viewer.picture() for _ in range(10)]
        await client.delete(f"/analysis/{made['video_id']}")
    with contextlib.suppress(OSError, av.FFmpegError):  # its video takes no more
        await publishing
    numbers = [read_barcode(np.asarray(one.to_ndarray(format="rgb24"), np.uint8)) for one in shown]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)


async def test_what_one_browser_publishes_another_watches(
    server: Server, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """VP8 is passed on as it is; the picture stored of a frame and the one shown at its result's time are the same."""
    camera = camera_file(make_video(tmp_path, CLIP), tmp_path / "camera.y4m", PICTURES)
    made = (await client.post("/analysis/webrtc-endpoint", json=BODY)).raise_for_status().json()
    async with chromium(tmp_path / "publishing", camera=camera) as publishing:
        async with publishing.page(server.url + "/docs") as page:
            await page.run(whip.PAGE_SCRIPT + ";0")
            size = {"width": 320, "height": 240}
            answer = await page.run(whip.call("publish", made["whip_endpoint"], made["token"], size))
            assert answer["status"] == 201
            await until_connected(client, made["video_id"])
            async with (
                chromium(tmp_path / "watching") as browser,
                watching(browser, server, f"/whep/{made['video_id']}") as watched,
            ):
                seen = await until_seen(watched, lambda seen: len(results(seen)) >= 8)
                assert seen["codec"] == "video/VP8"
                assert await metric(client, "video_analysis_live_encoders") == 0
        pairs = []
        for one in results(seen)[:8]:
            stored = f"/analysis/{made['video_id']}/frame/{one['frame_number']}?annotated=false"
            picture = decode((await client.get(stored)).raise_for_status().content)
            pairs.append((one["shown"], read_barcode(picture)))
        assert_mostly_right(pairs)


async def test_a_video_that_is_not_live_cannot_be_watched(client: httpx.AsyncClient) -> None:
    made = (await client.post("/analysis/rtmp-endpoint", json=BODY)).raise_for_status().json()
    answer = await client.post(
        f"/whep/{made['video_id']}", content="v=0", headers={"Content-Type": "application/sdp"}
    )
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("is not live: nobody publishes it to this server now")
