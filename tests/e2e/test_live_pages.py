"""The pages in Chromium, with the whole program: real publishers, real models, boxes measured in the pixels shown."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from monolith.access.key_file import KeyFile
from monolith.access.scopes import Scope
from monolith.domain.detection import ObjectDetection
from monolith.frames.annotate import color_of
from monolith.inference.models.coco import COCO_LABELS
from tests.peers.chromium import Chromium, Page, camera_file, chromium
from tests.peers.live_page import FIGURES, MEASURE, NOTICE
from tests.peers.rtmp import ffmpeg_to
from tests.program import Server, serving, until_ended
from tests.sign_clip import STEP, TURN, make_sign_clip

BODY = {"modelsToRun": ["objects_detection"], "frameStep": 3, "videoName": "Crossing"}
ENOUGH = 20
TOLERANCE = STEP / 2
"""Pixels. The model's boxes are off by 2 at most (measured on still pictures); those of the picture before or after
are off by `STEP`."""


SIGNS_FOUND = """measured.results.filter(({ inference_results }) =>
  inference_results.some(({ label }) => label === "stop sign")).length"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    key, _ = KeyFile(folder / "data" / "api-keys.json").add("tests", (Scope.READ, Scope.WRITE), None)
    return key


@pytest.fixture(scope="module")
def server(folder: Path, key: str) -> Iterator[Server]:
    """It asks for keys. Players wait long: other tests keep the processors busy."""
    with serving(
        folder, AUTH="on", PRECISION="f32", SEGMENT_SECONDS="5", PLAYER_DELAY_MS="2000", MAX_VIEWERS="2"
    ) as server:
        yield server


@pytest.fixture
async def client(server: Server, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sign_clip(tmp_path_factory.mktemp("clip") / "sign.mp4")


@asynccontextmanager
async def signed_in(
    server: Server, key: str, folder: Path, camera: Path | None = None
) -> AsyncIterator[Chromium]:
    """A browser whose user was sent to the sign-in page, and came back from there."""
    async with chromium(folder / "chromium", camera=camera) as browser:
        async with browser.page(f"{server.url}/publish") as page:
            await until_page(page, "location.pathname", lambda path: path == "/sign-in")
            await until_page(page, "document.readyState", lambda state: state == "complete")
            await page.run(f"document.querySelector('#key').value = {json.dumps(key)}")
            await page.run("document.querySelector('#form').requestSubmit()")
            await until_page(page, "location.pathname", lambda path: path == "/publish")
            whose = "document.querySelector('#session').textContent"
            await until_page(page, whose, lambda text: "tests (read, write)" in text)
        yield browser


@pytest.fixture
async def browser(server: Server, key: str, tmp_path: Path) -> AsyncIterator[Chromium]:
    async with signed_in(server, key, tmp_path) as browser:
        yield browser


@asynccontextmanager
async def endpoint(client: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    made = (await client.post("/analysis/rtmp-endpoint", json=BODY)).raise_for_status().json()
    yield made
    await client.delete(f"/analysis/{made['video_id']}")


@asynccontextmanager
async def published(client: httpx.AsyncClient, clip: Path, folder: Path) -> AsyncIterator[str]:
    """The id of a video that FFmpeg publishes, again and again."""
    async with (
        endpoint(client) as made,
        ffmpeg_to(made["rtmp_endpoint"], clip, folder / "ffmpeg.log", loop=True),
    ):
        yield made["video_id"]


@asynccontextmanager
async def watching(browser: Chromium, server: Server, query: str) -> AsyncIterator[Page]:
    async with browser.page(f"{server.url}/live?{query}") as page:
        await page.run(MEASURE + ";0")
        assert await page.run("measure()")
        yield page


async def until_page(page: Page, script: str, wanted: Callable[[Any], bool], seconds: float = 90) -> Any:
    """What `script` says when it is as `wanted`. Raises TimeoutError with the last of it."""
    seen: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    seen = await page.run(script)
                except RuntimeError as error:  # between two pages
                    seen = error
                else:
                    if wanted(seen):
                        return seen
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise TimeoutError(f"{script}: {seen}"[:2000]) from error


def middle(sides: dict[str, int]) -> float:
    return (sides["left"] + sides["right"]) / 2


def on_the_sign(pairs: list[dict[str, dict[str, int]]]) -> bool:
    """Whether, of the last `ENOUGH`, boxes lie on the sign of the picture that they are drawn over: three of four,
    since on a busy machine results come too late to be drawn, and the browser puts the next picture on the screen when
    the first is looked at. Were times off by one picture, none would."""
    last = pairs[-ENOUGH:]
    if len(last) < ENOUGH or len({middle(one["sign"]) for one in last}) < ENOUGH // 2:
        return False
    off = [abs(middle(one["box"]) - middle(one["sign"])) for one in last]
    below = [abs(one["box"]["bottom"] - one["sign"]["bottom"]) for one in last]
    return sum(one <= TOLERANCE for one in off) >= 0.75 * ENOUGH and statistics.median(below) <= 10


@pytest.mark.parametrize("results", ["channel", "events"])
async def test_boxes_are_drawn_over_the_very_picture(
    server: Server, client: httpx.AsyncClient, browser: Chromium, clip: Path, tmp_path: Path, results: str
) -> None:
    async with (
        published(client, clip, tmp_path) as video_id,
        watching(browser, server, f"video={video_id}&results={results}") as page,
    ):
        await until_page(page, "measured.drawn", on_the_sign)
        await until_page(page, "measured.between", on_the_sign)
        figures = await until_page(page, FIGURES, lambda text: "Behind the source" in text)
        title = await page.run("document.title")
    assert "live by RTMP" in figures and "640 × 360, H264" in figures and "Coverage" in figures
    assert title == "Crossing, live"


async def test_boxes_that_the_server_draws_lie_on_the_object_too(
    server: Server, client: httpx.AsyncClient, browser: Chromium, clip: Path, tmp_path: Path
) -> None:
    async with (
        published(client, clip, tmp_path) as video_id,
        watching(browser, server, f"video={video_id}&overlay=burned") as page,
    ):
        await until_page(
            page,
            """measured.results.filter(({ inference_results }) => inference_results.length)
                 .map(({ rtp_timestamp }) => measured.pictures[rtp_timestamp])
                 .filter((pair) => pair?.box.pixels > 50)""",
            on_the_sign,
        )
        assert not await page.run("measured.drawn.some(({ box }) => box.pixels)")


async def test_a_page_goes_on_with_a_publisher_who_comes_again(
    server: Server, client: httpx.AsyncClient, browser: Chromium, clip: Path, tmp_path: Path
) -> None:
    count = "measured.drawn.length"
    async with (
        endpoint(client) as made,
        watching(browser, server, f"video={made['video_id']}") as page,
    ):
        assert "Nobody publishes" in await until_page(page, NOTICE, lambda text: "Nobody" in text)
        async with ffmpeg_to(made["rtmp_endpoint"], clip, tmp_path / "first.log", loop=True) as ffmpeg:
            before = await until_page(page, count, lambda count: count > 0)
            await until_page(page, NOTICE, lambda text: text == "")
            ffmpeg.kill()
            await ffmpeg.wait()
        assert "The publisher is away" in await until_page(page, NOTICE, lambda text: "away" in text)
        async with ffmpeg_to(made["rtmp_endpoint"], clip, tmp_path / "second.log", loop=True) as ffmpeg:
            await until_page(page, count, lambda count: count > before)
            await until_page(page, NOTICE, lambda text: text == "")
            ffmpeg.terminate()  # it ends in order then
            over = await until_page(page, NOTICE, lambda text: "over" in text)
    assert over == "The video is over. Results"


async def test_what_cannot_be_watched_is_said(
    server: Server, client: httpx.AsyncClient, browser: Chromium, clip: Path, tmp_path: Path
) -> None:
    unknown = "0197c0de-0000-7000-8000-00000000ffff"
    async with browser.page(f"{server.url}/live?video={unknown}") as page:
        assert "no video" in (await until_page(page, NOTICE, lambda text: "video" in text)).lower()
        await page.go(f"{server.url}/live")
        await until_page(page, "document.body.innerText", lambda text: "Which video?" in text)
        async with (
            published(client, clip, tmp_path) as video_id,
            watching(browser, server, f"video={video_id}") as first,
            watching(browser, server, f"video={video_id}") as second,
        ):
            for one in (first, second):
                await until_page(one, FIGURES, lambda text: "640 × 360" in text)
            await page.go(f"{server.url}/live?video={video_id}")
            notice = await until_page(page, NOTICE, lambda text: "Waiting" in text)
            assert "2 viewers watch already" in notice and "Waiting for a place" in notice
            await first.go(f"{server.url}/")
            await until_page(page, FIGURES, lambda text: "640 × 360" in text)
            assert await until_page(
                first,
                "[...document.querySelectorAll('#videos a')].map(({ textContent, href }) => [textContent, href])",
                lambda links: ["watch live", f"{server.url}/live?video={video_id}"] in links,
            )


async def test_a_camera_is_published_and_watched_by_the_same_page(
    server: Server, client: httpx.AsyncClient, key: str, clip: Path, tmp_path: Path
) -> None:
    camera = camera_file(clip, tmp_path / "camera.y4m", 2 * TURN)
    async with (
        signed_in(server, key, tmp_path, camera) as browser,
        browser.page(f"{server.url}/publish") as page,
    ):
        await page.run("document.querySelector('button[value=camera]').click()")
        await until_page(page, "document.querySelector('live-player') !== null", bool)
        await page.run(MEASURE + ";0")
        await page.run("measure()")
        video_id = await page.run("document.querySelector('live-player').getAttribute('video')")
        await until_page(page, SIGNS_FOUND, lambda count: count >= 5)
        assert "live by WebRTC" in await until_page(page, FIGURES, lambda text: "live by" in text)
        await page.run("document.querySelector('#stop').click()")
        await until_page(page, "document.querySelector('#message').textContent", lambda text: "Ended" in text)
        assert (await until_ended(client, video_id))["status"] == "Completed"
        assert "The video is over" in await until_page(page, NOTICE, lambda text: "over" in text)
    await client.delete(f"/analysis/{video_id}")


async def test_an_address_for_rtmp_is_made_and_works(
    server: Server, client: httpx.AsyncClient, browser: Chromium, clip: Path, tmp_path: Path
) -> None:
    async with browser.page(f"{server.url}/publish") as page:
        await page.run("document.querySelector('button[value=rtmp]').click()")
        place, key = await until_page(
            page, "['server', 'key'].map((id) => document.getElementById(id).value)", all
        )
        video_id = await page.run("document.querySelector('live-player').getAttribute('video')")
        async with ffmpeg_to(f"{place}/{key}", clip, tmp_path / "ffmpeg.log", loop=True):
            await until_page(page, FIGURES, lambda text: "640 × 360, H264" in text)
    await client.delete(f"/analysis/{video_id}")


async def test_the_modules_of_the_pages(server: Server, browser: Chromium) -> None:
    """Colours are those of the server; RTP times wrap; results that come late make the player wait longer."""
    async with browser.page(f"{server.url}/docs") as page:
        labels = [*COCO_LABELS, "Überraschung"]
        colors = await page.run(
            f"import('/web/drawing.js').then(({{ colorOf }}) => {json.dumps(labels)}.map(colorOf))"
        )
        for label, color in zip(labels, colors, strict=True):
            found = ObjectDetection(class_id=0, class_name=label, confidence=1, xyxy=(0, 0, 1, 1))
            assert color == "#" + "".join(f"{channel:02x}" for channel in color_of(found))
        assert await page.run(RESULTS_BY_TIME) == [
            [["a", 4294967000], ["b", 4294967000]], [["a", 704], ["b", 4294967000]], [["a", 704]], [], [1, 3]
        ]  # fmt: skip
        assert await page.run(BETWEEN) == [
            [["car", [15, 20, 25, 20]], ["car", [92.5, 90, 10, 10]], ["dog", [10, 20, 20, 20]]], 0.5
        ]  # fmt: skip
        assert await page.run(DELAYS) == [500, 500, 950, 2000, 2000, 300, 300]


RESULTS_BY_TIME = """import("/web/results.js").then(({ Found }) => {
  const found = new Found();
  const add = (inference_model, rtp_timestamp) =>
    found.add({ inference_model, rtp_timestamp, inference_results: [] });
  const at = (time) => found.at(time).map((one) => [one.inference_model, one.rtp_timestamp]);
  add("a", 704);
  add("a", 4294967000);
  add("b", 4294967000);
  const seen = [at(4294967295), at(704), at(704 + 179900), at(704 + 180001)];
  add("a", 705);
  return [...seen, [found.late, found.inTime]];
})"""
BETWEEN = """import("/web/between.js").then(({ between, overlap }) => {
  const results = (width, ...entries) => ({
    width, height: 100, inference_results: entries.map(([label, ...coordinates]) => ({ label, coordinates })),
  });
  const earlier = results(100, ["car", 10, 20, 20, 20], ["car", 90, 90, 10, 10], ["dog", 10, 20, 20, 20]);
  const later = results(200, ["car", 190, 90, 20, 10], ["car", 40, 20, 60, 20], ["cat", 20, 20, 40, 20]);
  const moved = between(earlier, later, 0.5).inference_results;
  return [moved.map(({ label, coordinates }) => [label, coordinates]), overlap([0, 0, 2, 2], [0, 0, 2, 1])];
})"""
DELAYS = """import("/web/delay.js").then(({ Delay }) => {
  const delay = new Delay(500), waits = [];
  const results = (late) => {
    for (let n = 0; n < 10; n++) delay.came(n < 4 ? late : -1);
    delay.adapt();
    waits.push(delay.milliseconds);
  };
  delay.came(9000);
  delay.adapt();
  waits.push(delay.milliseconds);
  results(-1);
  results(350);
  results(5000);
  results(5000);
  delay.choose(300);
  waits.push(delay.milliseconds);
  results(5000);
  return waits;
})"""
