"""Publishing by RTMP to the whole program, with the programs that people use."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from monolith.frames.jpeg import decode
from tests.peers.rtmp import ffmpeg_to, gstreamer_to, publish_enhanced, refused_by
from tests.peers.rtmp_publisher import RtmpPublisher
from tests.program import Server, serving, until_ended
from tests.videos import Recipe, make_video, read_barcode

SETTINGS = {"PRECISION": "f32", "SEGMENT_SECONDS": "2", "LIVE_SILENCE": "60"}
PICTURES = 100
CLIP = Recipe(frames=PICTURES, gop=25, b_frames=2, width=320, height=240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), **SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with B-frames; picture n shows n."""
    return make_video(tmp_path_factory.mktemp("clip"), CLIP)


async def endpoint(
    client: httpx.AsyncClient, frame_step: int = 5, headers: dict[str, str] | None = None
) -> tuple[str, str]:
    """Video id and where to publish."""
    body = {"modelsToRun": ["color_detection"], "frameStep": frame_step, "videoName": "Door"}
    answer = await client.post("/analysis/rtmp-endpoint", json=body, headers=headers)
    made = answer.raise_for_status().json()
    assert (answer.status_code, made["status"], made["video_name"]) == (201, "Pending", "Door")
    return str(made["video_id"]), str(made["rtmp_endpoint"])


async def until(
    client: httpx.AsyncClient, video_id: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The status when it is as `wanted`. Raises TimeoutError with the last one."""
    body: dict[str, Any] = {}
    try:
        async with asyncio.timeout(90):
            while not wanted(body := (await client.get(f"/analysis/{video_id}")).raise_for_status().json()):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(body)) from error
    return body


async def shown(client: httpx.AsyncClient, video_id: str) -> dict[int, int]:
    """Frame number → what its stored picture shows, of all that have results."""
    rows = (await client.get(f"/analysis/{video_id}/results")).raise_for_status().json()
    found: dict[int, int] = {}
    for number in sorted({row["frame_number"] for row in rows}):
        answer = await client.get(f"/analysis/{video_id}/frame/{number}", params={"annotated": "false"})
        found[number] = read_barcode(decode(answer.raise_for_status().content))
    return found


async def test_ffmpeg_with_b_frames_and_sound(
    client: httpx.AsyncClient, server: Server, clip: Path, tmp_path: Path
) -> None:
    video_id, url = await endpoint(client)
    async with ffmpeg_to(url, clip, tmp_path / "log", sound=True) as publisher:
        assert await publisher.wait() == 0, (tmp_path / "log").read_text()
    body = await until_ended(client, video_id)
    assert (body["status"], body["transport"], body["live"]) == ("Completed", "rtmp", True), body["error"]
    assert (body["frames_total"], body["connections"]) == (PICTURES, 1)
    pictures = await shown(client, video_id)
    assert pictures and all(number == picture for number, picture in pictures.items())
    assert len(pictures) + body["frames_dropped"] == PICTURES // 5
    key = url.rpartition("/")[2]
    events = (await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})).text
    assert len(key) >= 50 and key not in events + server.output
    assert "has ended" in await asyncio.to_thread(refused_by, url, clip)


@pytest.mark.parametrize("behind", [b"\xff" * 300, RtmpPublisher().unpublish()], ids=["cut", "empty"])
async def test_a_false_start_ends_nothing(
    client: httpx.AsyncClient, clip: Path, tmp_path: Path, behind: bytes
) -> None:
    """Cut off, or ended in order, before the first picture: at the beginning, and between two connections."""
    video_id, url = await endpoint(client)
    await false_start(url, behind)
    assert (await status_of(client, video_id))["status"] == "Pending"
    async with ffmpeg_to(url, clip, tmp_path / "first", loop=True) as publisher:
        await until(client, video_id, lambda body: bool(body["frames_analyzed"]))
        publisher.kill()
        await publisher.wait()
    await until(client, video_id, lambda body: not body["connected"])
    await false_start(url, behind)
    assert (await status_of(client, video_id))["status"] == "Processing"
    async with ffmpeg_to(url, clip, tmp_path / "second") as publisher:
        assert await publisher.wait() == 0, (tmp_path / "second").read_text()
    body = await until_ended(client, video_id)
    assert (body["status"], body["connections"]) == ("Completed", 2), body["error"]


async def test_who_ends_with_an_undecodable_configuration_is_told(client: httpx.AsyncClient) -> None:
    video_id, url = await endpoint(client)
    publisher = RtmpPublisher()
    pictures = [b"\x17\0\0\0\0", *(b"\x17\1\0\0\0" + bytes(20) for _ in range(5))]
    await false_start(url, b"".join(publisher.video(one, 0) for one in pictures) + publisher.unpublish())
    body = await until_ended(client, video_id)
    assert body["status"] == "Failed"
    assert body["error"].startswith("no picture of what was published can be decoded: ")


async def false_start(url: str, behind: bytes) -> None:
    """A connection whose publish has `behind` in the same piece. It ends when the server has seen all."""
    address = httpx.URL(url)
    assert address.port is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(RtmpPublisher().begin(address.path.rpartition("/")[2]) + behind)
    async with asyncio.timeout(90):
        if behind[:1] == b"\xff":
            await reader.read()
        else:
            await reader.readuntil(b"onFCUnpublish")
    writer.close()
    await asyncio.sleep(1.0)  # for what must not come of it


async def status_of(client: httpx.AsyncClient, video_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
    return body


@pytest.mark.parametrize("sink", ["rtmpsink", "rtmp2sink"])
async def test_gstreamer(client: httpx.AsyncClient, tmp_path: Path, sink: str) -> None:
    clip = make_video(tmp_path, replace(CLIP, frames=2 * PICTURES))
    video_id, url = await endpoint(client)
    async with gstreamer_to(sink, url, clip, tmp_path / "log") as publisher:
        assert await publisher.wait() == 0, (tmp_path / "log").read_text()
        body = await until(client, video_id, lambda body: body["connections"] == 1 and not body["connected"])
    if body["status"] == "Processing":  # it went without a word, so it might come again
        await client.post(f"/analysis/{video_id}/cancel")
    body = await until_ended(client, video_id)
    assert (body["status"], body["connections"]) == ("Completed", 1), body["error"]
    pictures = await shown(client, video_id)
    steps = [later - earlier for earlier, later in itertools.pairwise(pictures.values())]
    assert pictures and all(
        step > 0 and step % 5 == 0 for step in steps
    )  # what a busy machine drops is dropped whole


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "libsvtav1"])
async def test_enhanced_rtmp(client: httpx.AsyncClient, tmp_path: Path, codec: str) -> None:
    recipe = Recipe(suffix=".mp4", codec=codec, frames=PICTURES, gop=25, width=320, height=240)
    video = make_video(tmp_path, recipe)
    video_id, url = await endpoint(client)
    await asyncio.to_thread(publish_enhanced, url, video)
    body = await until_ended(client, video_id)
    assert body["status"] == "Completed", body["error"]
    codecs = {"libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1"}
    assert body["media"]["codec"] == codecs[codec]
    pictures = await shown(client, video_id)
    assert pictures and all(number == picture for number, picture in pictures.items())
    assert (body["frames_total"], len(pictures) + body["frames_dropped"]) == (PICTURES, PICTURES // 5)


async def test_who_may_not_publish_is_told(
    client: httpx.AsyncClient, server: Server, clip: Path, tmp_path: Path
) -> None:
    video_id, url = await endpoint(client)
    folder, _, key = url.rpartition("/")
    wrong = key[:-4] + ("AAAA" if not key.endswith("AAAA") else "BBBB")
    assert "the key is wrong" in await asyncio.to_thread(refused_by, f"{folder}/{wrong}", clip)
    assert "no key of an endpoint" in await asyncio.to_thread(refused_by, f"{folder}/guess", clip)
    assert "the application" in await asyncio.to_thread(refused_by, url.replace("/live/", "/other/"), clip)
    async with ffmpeg_to(url, clip, tmp_path / "log", loop=True):
        await until(client, video_id, lambda body: body["frames_analyzed"] >= 2)
        assert "published already" in await asyncio.to_thread(refused_by, url, clip)
        before = (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"]
        body = await until(client, video_id, lambda body: body["frames_analyzed"] >= before + 3)
        assert body["connections"] == 1
    assert (await until_ended(client, video_id))["status"] == "Completed"
    assert key not in server.output and wrong not in server.output


async def test_a_publisher_that_is_killed_comes_again(
    client: httpx.AsyncClient, clip: Path, tmp_path: Path
) -> None:
    video_id, url = await endpoint(client)
    for connection in (1, 2):
        async with ffmpeg_to(url, clip, tmp_path / "log", loop=True) as publisher:
            await until(client, video_id, lambda body, now=connection: body["connections"] == now)  # type: ignore[misc]
            before = (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"]
            await until(client, video_id, lambda body, least=before + 4: body["frames_analyzed"] >= least)  # type: ignore[misc]
            if connection == 1:
                publisher.kill()
            else:
                publisher.terminate()  # FFmpeg ends in order then
            await publisher.wait()
        if connection == 1:
            body = await until(client, video_id, lambda body: not body["connected"])
            assert body["status"] == "Processing"
    body = await until_ended(client, video_id)
    assert (body["status"], body["connections"]) == ("Completed", 2), body["error"]
    first, second = (await client.get(f"/analysis/{video_id}/connections")).json()
    assert first["reason"] == "the publisher's connection broke"
    assert second["segment"] > first["segment"] and second["first_frame"] > first["last_frame"]


async def test_the_program_is_killed_and_its_publisher_comes_again(clip: Path, tmp_path: Path) -> None:
    async with Server(tmp_path, **SETTINGS) as server:
        async with server.client() as client:
            video_id, url = await endpoint(client)
            waiting, later = await endpoint(client)
            async with ffmpeg_to(url, clip, tmp_path / "log", loop=True):
                await until(client, video_id, lambda body: body["frames_analyzed"] >= 4)
                await server.kill()
        await server.start()
        async with server.client() as client:
            repeated = (await client.post(
                "/analysis/rtmp-endpoint", json={"modelsToRun": ["color_detection"]}
            )).raise_for_status().json()["rtmp_endpoint"]  # fmt: skip
            port = repeated.split(":")[2].split("/")[0]
            for of, address in ((video_id, url), (waiting, later)):
                again = f"rtmp://127.0.0.1:{port}/live/{address.rpartition('/')[2]}"
                async with ffmpeg_to(again, clip, tmp_path / "log") as publisher:
                    await publisher.wait()
                body = await until_ended(client, of)
                assert body["status"] == "Completed", body["error"]
                assert body["connections"] == (2 if of == video_id else 1)


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_a_video_that_is_over_sends_its_publisher_away(
    client: httpx.AsyncClient, server: Server, clip: Path, tmp_path: Path, way: str
) -> None:
    video_id, url = await endpoint(client)
    async with ffmpeg_to(url, clip, tmp_path / "log", loop=True) as publisher:
        await until(client, video_id, lambda body: body["frames_analyzed"] >= 2)
        if way == "cancel":
            await client.post(f"/analysis/{video_id}/cancel")
        else:
            await client.delete(f"/analysis/{video_id}")
        async with asyncio.timeout(60):
            assert await publisher.wait() != 0
    if way == "cancel":
        assert (await until_ended(client, video_id))["status"] == "Completed"
    else:
        assert (await client.get(f"/analysis/{video_id}")).status_code == 404
    await asyncio.to_thread(refused_by, url, clip)


async def test_garbage_disturbs_nobody(
    client: httpx.AsyncClient, server: Server, clip: Path, tmp_path: Path
) -> None:
    video_id, url = await endpoint(client)
    port = int(url.split(":")[2].split("/")[0])
    async with ffmpeg_to(url, clip, tmp_path / "log", loop=True) as publisher:
        await until(client, video_id, lambda body: body["frames_analyzed"] >= 2)
        for garbage in (b"GET / HTTP/1.1\r\n\r\n" * 100, b"\x03" + bytes(1536) + b"\xff" * 5000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            async with asyncio.timeout(60):
                while await reader.read(1 << 16):
                    pass
            writer.close()
        before = (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"]
        await until(client, video_id, lambda body: body["frames_analyzed"] >= before + 3)
        publisher.terminate()
        await publisher.wait()
    body = await until_ended(client, video_id)
    assert (body["status"], body["connections"]) == ("Completed", 1)
    assert "does not keep to RTMP" in server.output


async def test_a_repeat_gives_the_same_endpoint(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "door-1"}
    first, again = await endpoint(client, headers=headers), await endpoint(client, headers=headers)
    assert first == again
    refused = await client.post("/analysis/rtmp-endpoint", json={"modelsToRun": []})
    assert (refused.status_code, refused.json()["field"]) == (400, "modelsToRun")
    assert (await client.post(f"/analysis/{first[0]}/cancel")).status_code == 200
    ended = await client.post(
        "/analysis/rtmp-endpoint",
        json={"modelsToRun": ["color_detection"], "frameStep": 5, "videoName": "Door"},
        headers=headers,
    )
    assert ended.status_code == 409
