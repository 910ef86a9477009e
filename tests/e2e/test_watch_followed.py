"""Watching sources that the program reads itself: an RTSP server and live HLS give pictures to the whole program."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from monolith.frames.jpeg import decode
from tests.e2e.test_whep import metric, until_connected
from tests.peers.hls import live_hls
from tests.peers.nginx import nginx
from tests.peers.rtsp import file_mount, live_mount, rtsp_server
from tests.peers.whep import Viewer
from tests.program import Server, free_port, serving
from tests.videos import Recipe, make_video, read_barcode

PICTURES = 250
CLIP = Recipe(frames=PICTURES, gop=10, durations=(100,), width=320, height=240)
"""Ten pictures a second; the n-th shows n."""
B_FRAMES = Recipe(frames=PICTURES, gop=10, b_frames=2, durations=(100,), width=320, height=240)
SDP = {"Content-Type": "application/sdp"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("server"), PRECISION="f32", SEGMENT_SECONDS="2", FETCH_READ_TIMEOUT="10"
    ) as server:
        yield server


async def start(client: httpx.AsyncClient, url: str) -> str:
    body = {"videoURL": url, "modelsToRun": ["color_detection"], "frameStep": 2}
    video_id = str((await client.post("/analysis/start", json=body)).raise_for_status().json()["video_id"])
    await until_connected(client, video_id)
    return video_id


@asynccontextmanager
async def watching(client: httpx.AsyncClient, video_id: str, query: str = "") -> AsyncIterator[Viewer]:
    async with Viewer() as viewer:
        await viewer.watch(lambda offer: answer_to(client, video_id + query, offer))
        yield viewer


async def answer_to(client: httpx.AsyncClient, path: str, offer: str) -> str:
    answer = await client.post(f"/whep/{path}", content=offer, headers=SDP)
    assert answer.status_code == 201, answer.text
    return answer.text


class Seen:
    """What a viewer was shown: RTP timestamp → the number in the picture, in their order."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.numbers: dict[int, int] = {}

    async def watch(self, until: Callable[[Seen], bool]) -> None:
        async with asyncio.timeout(60):
            while not until(self):
                picture = await self._viewer.picture()
                shown = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                self.numbers[self._viewer.rtp_timestamp(picture)] = read_barcode(shown)

    @property
    def results(self) -> list[dict[str, Any]]:
        """Those whose picture was shown, with the number in it."""
        found = (one for one in self._viewer.messages if one["type"] == "results")
        return [
            one | {"shown": self.numbers[one["rtp_timestamp"]]}
            for one in found
            if one["rtp_timestamp"] in self.numbers
        ]

    @property
    def steps(self) -> list[int]:
        numbers = list(self.numbers.values())
        return [(later - earlier) % PICTURES for earlier, later in itertools.pairwise(numbers)]


async def assert_right(client: httpx.AsyncClient, video_id: str, seen: Seen) -> None:
    """Every result came with the time of the very picture that is stored of its frame."""
    assert seen.results
    for one in seen.results:
        path = f"/analysis/{video_id}/frame/{one['frame_number']}?annotated=false"
        stored = decode((await client.get(path)).raise_for_status().content)
        assert one["shown"] == read_barcode(stored)


@pytest.mark.parametrize(("recipe", "encoders"), [(CLIP, 0), (B_FRAMES, 1)], ids=["passed", "encoded"])
async def test_a_camera_is_watched_and_results_belong_to_its_pictures(
    client: httpx.AsyncClient, tmp_path: Path, recipe: Recipe, encoders: int
) -> None:
    clip = make_video(tmp_path, recipe)
    async with rtsp_server({"/clip": file_mount(clip)}, tmp_path) as port:
        video_id = await start(client, f"rtsp://127.0.0.1:{port}/clip")
        async with watching(client, video_id) as viewer:
            seen = Seen(viewer)
            await seen.watch(until=lambda seen: len(seen.numbers) >= 25 and len(seen.results) >= 6)
            assert await metric(client, "video_analysis_live_encoders") == encoders
            assert await metric(client, "video_analysis_followed_feeds") == 1
        assert set(seen.steps) == {1}
        await assert_right(client, video_id, seen)
        await client.post(f"/analysis/{video_id}/cancel")


async def test_a_live_playlist_is_watched_evenly(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Its segments of two seconds come at once; the viewer gets every picture, and none twice."""
    clip = make_video(tmp_path, CLIP)
    async with (
        nginx(tmp_path / "www", tmp_path / "nginx") as web,
        live_hls(web.root, tmp_path, rate=10, seconds=2.0, of=clip),
    ):
        video_id = await start(client, f"{web.url}/live.m3u8")
        async with watching(client, video_id) as viewer:
            seen = Seen(viewer)
            await seen.watch(until=lambda seen: len(seen.numbers) >= 60 and len(seen.results) >= 10)
        assert set(seen.steps) == {1}
        await assert_right(client, video_id, seen)
        await client.post(f"/analysis/{video_id}/cancel")


async def test_who_watches_goes_on_when_the_camera_is_started_again_until_it_is_cancelled(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    port = free_port()
    async with rtsp_server({"/live": live_mount(rate=10)}, tmp_path / "first", port):
        video_id = await start(client, f"rtsp://127.0.0.1:{port}/live")
        viewer = await seeing(client, video_id)
    async with viewer, rtsp_server({"/live": live_mount(rate=10, width=480)}, tmp_path / "second", port):
        async with asyncio.timeout(60):
            while (await viewer.picture(90)).width != 480:
                pass
        await client.post(f"/analysis/{video_id}/cancel")
        with pytest.raises(MediaStreamError):
            while True:
                await viewer.picture(90)
    async with asyncio.timeout(90):
        while await metric(client, "video_analysis_viewers"):
            await asyncio.sleep(0.1)
    refused = await client.post(f"/whep/{video_id}", content="v=0", headers=SDP)
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (404, "not-live")


async def seeing(client: httpx.AsyncClient, video_id: str) -> Viewer:
    """A viewer who has seen a picture; the caller leaves it."""
    viewer = Viewer()
    await viewer.watch(lambda offer: answer_to(client, video_id, offer))
    assert (await viewer.picture()).width == 320
    return viewer
