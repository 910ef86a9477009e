"""Attacks on the running program: what it withstands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monolith.readmodels.export import Export
from tests.e2e.test_kill import assert_nothing_twice
from tests.media import sample_clip
from tests.program import ALL_MODELS, Server, result_rows, until_ended, upload
from tests.videos import Recipe, make_video

COLORS = ("color_detection",)
QUICK = {"PRECISION": "f32", "SEGMENT_SECONDS": "2", "WORKERS": "1"}


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A program of its own for rough treatment."""
    server = Server(tmp_path_factory.mktemp("rough"), WORKERS="1")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def rough_client(rough: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with rough.client() as client:
        yield client


async def until_analysed(client: httpx.AsyncClient, video_id: str, frames: int) -> None:
    async with asyncio.timeout(90):
        while (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"] < frames:
            await asyncio.sleep(0.02)


def odd_video(folder: Path, width: int, height: int, pixels: str) -> Path:
    path = folder / f"{width}x{height}-{pixels}.mkv"
    noise = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for _ in range(3):
            picture = noise.integers(0, 255, (height, width, 3), np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("width", "height", "pixels"),
    [
        (1, 1, "bgra"), (2000, 1, "bgra"), (2, 16384, "bgra"), (16384, 2, "bgra"),
        (64, 64, "gray16le"), (64, 64, "yuva420p"), (64, 64, "yuv444p10le"),
    ],
)  # fmt: skip
async def test_odd_pictures_are_analysed(
    client: httpx.AsyncClient, tmp_path: Path, width: int, height: int, pixels: str
) -> None:
    video_id = await upload(client, odd_video(tmp_path, width, height, pixels))
    body = await until_ended(client, video_id)
    assert (body["status"], body["error"]) == ("Completed", None)
    assert len(await result_rows(client, video_id)) == 3 * len(ALL_MODELS)
    picture = await client.get(f"/analysis/{video_id}/frame/3")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")


async def test_pictures_may_change_their_size(client: httpx.AsyncClient, tmp_path: Path) -> None:
    small = make_video(tmp_path, Recipe(frames=10, suffix=".ts"), "small")
    large = make_video(tmp_path, Recipe(frames=10, suffix=".ts", width=320, height=240), "large")
    small.write_bytes(small.read_bytes() + large.read_bytes())
    body = await until_ended(client, await upload(client, small, models=COLORS))
    assert (body["status"], body["frames_analyzed"], body["frames_dropped"]) == ("Completed", 20, 0)


async def test_parallel_uploads_with_one_key_are_one_video(
    server: Server, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=3))
    ids = await asyncio.gather(*(upload(client, path, models=COLORS, key="race") for _ in range(6)))
    assert len(set(ids)) == 1
    body = await until_ended(client, ids[0])
    assert (body["status"], body["frames_analyzed"]) == ("Completed", 3)
    await assert_nothing_twice(client, ids[0])


async def test_of_many_deletes_one_wins(server: Server, client: httpx.AsyncClient) -> None:
    video_id = await upload(client, sample_clip("bikes.mp4"), models=COLORS)
    calls = [client.delete(f"/analysis/{video_id}") for _ in range(20)]
    calls += [client.post(f"/analysis/{video_id}/cancel") for _ in range(20)]
    codes = Counter(answer.status_code for answer in await asyncio.gather(*calls))
    assert codes[204] == 1
    assert set(codes) <= {200, 204, 404, 409}
    async with asyncio.timeout(60):
        while (server.folder / "data" / "videos" / video_id).exists():
            await asyncio.sleep(0.05)


async def test_all_processes_killed_at_once_and_again_during_the_start(tmp_path: Path) -> None:
    async with Server(tmp_path, **QUICK) as server:
        async with server.client() as client:
            video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=5, models=COLORS)
            await until_analysed(client, video_id, 1)
        for pid in [*server.children(), server.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await server.kill()
        await server.start(wait=False)
        await asyncio.sleep(0.7)
        await server.kill()
        await server.start()
        async with server.client() as client:
            body = await until_ended(client, video_id)
            assert (body["status"], body["frames_analyzed"]) == ("Completed", 50), body["error"]
            await assert_nothing_twice(client, video_id)
    assert "Traceback" not in server.output


async def test_a_lower_frame_height_loses_nothing(tmp_path: Path) -> None:
    async with Server(tmp_path, **QUICK) as server:
        async with server.client() as client:
            video_id = await upload(
                client, sample_clip("bikes.mp4"), frame_step=6, models=("objects_detection",)
            )
            await until_analysed(client, video_id, 5)
        await server.kill()
        server._settings["FRAME_MAX_HEIGHT"] = "64"
        await server.start()
        async with server.client() as client:
            body = await until_ended(client, video_id)
        assert (body["status"], body["frames_analyzed"], body["frames_dropped"]) == ("Completed", 41, 0)


async def test_a_lost_pack_is_a_404(rough: Server, rough_client: httpx.AsyncClient, tmp_path: Path) -> None:
    video_id = await upload(rough_client, make_video(tmp_path, Recipe(frames=2)), models=COLORS)
    await until_ended(rough_client, video_id)
    for pack in (rough.folder / "data" / "videos" / video_id).rglob("*.mjpeg"):
        pack.unlink()
    assert (await rough_client.get(f"/analysis/{video_id}/frame/1")).status_code == 404


async def test_an_overlong_boundary_is_refused(rough_client: httpx.AsyncClient) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={'a' * 300}"}
    assert (await rough_client.post("/analysis/upload", content=b"x", headers=kind)).status_code == 400


@pytest.mark.parametrize("host", ["a..b"])
async def test_an_impossible_host_name_is_not_even_looked_up(
    rough: Server, rough_client: httpx.AsyncClient, host: str
) -> None:
    before = rough.output.count("Traceback")
    order = {"videoURL": f"http://{host}/x.mp4", "modelsToRun": list(COLORS)}
    answer = await rough_client.post("/analysis/start", json=order)
    error = answer.json().get("detail", "")
    if answer.status_code == 201:
        error = (await until_ended(rough_client, answer.json()["video_id"]))["error"]
    assert host[:4] in error
    assert "is no name that could be looked up" in error
    assert "codec" not in error
    assert rough.output.count("Traceback") == before


async def test_the_key_of_a_deleted_video_promises_nothing(
    rough_client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=2))
    first = await upload(rough_client, path, models=COLORS, key="deleted")
    await rough_client.delete(f"/analysis/{first}")
    try:
        again = await upload(rough_client, path, models=COLORS, key="deleted")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code in (404, 409, 410)
        return
    assert (await rough_client.get(f"/analysis/{again}")).status_code == 200


async def test_default_names_are_printable(rough_client: httpx.AsyncClient) -> None:
    order = {"videoURL": "http://127.0.0.1:1/%0a%1b%5b31m.mp4", "modelsToRun": list(COLORS)}
    answer = await rough_client.post("/analysis/start", json=order)
    assert answer.json()["video_name"].isprintable()


async def test_endless_headers_are_refused(rough: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rough.url.rpartition(":")[2]))
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (4 << 20) + b"\r\n\r\n")
        await writer.drain()
        assert b" 200 " not in await reader.readline()
    except ConnectionError:
        pass  # cut off: refused as well
    finally:
        writer.close()


async def served_data(folder: Path) -> tuple[Server, str]:
    """A program that is stopped, and the video it has analysed."""
    async with Server(folder, **QUICK) as server, server.client() as client:
        video_id = await upload(client, make_video(folder, Recipe(frames=40)), models=COLORS)
        assert (await until_ended(client, video_id))["status"] == "Completed"
    return server, video_id


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data directory of a program that analysed one video (its id), to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    _, video_id = asyncio.run(served_data(folder))
    return folder / "data", video_id


def scramble(path: Path) -> None:
    """Overwrite the middle of every page but the first two."""
    data = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(data), 4096):
        data[page : page + 2000] = b"\xa5" * 2000
    path.write_bytes(data)


async def test_damaged_read_models_are_built_again(stopped: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(stopped[0], tmp_path / "data")
    scramble(tmp_path / "data" / "readmodels.db")
    server = Server(tmp_path, **QUICK)
    try:
        await server.start()
        async with server.client() as client:
            assert len((await client.get(f"/analysis/{stopped[1]}/results")).json()) == 40
    finally:
        await server.kill()


async def test_read_models_ahead_of_the_events_are_built_again(
    stopped: tuple[Path, str], tmp_path: Path
) -> None:
    """As after an older backup of events.db was put back."""
    shutil.copytree(stopped[0], tmp_path / "data")
    for file in (tmp_path / "data").glob("events.db*"):
        file.unlink()
    async with Server(tmp_path, **QUICK) as server, server.client() as client:
        assert (await client.get(f"/analysis/{stopped[1]}")).status_code == 404
        video_id = await upload(client, make_video(tmp_path, Recipe(frames=2)), models=COLORS)
        assert (await client.get(f"/analysis/{video_id}")).status_code == 200


async def test_a_damaged_event_store_is_named_plainly(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events.db").write_bytes(b"no database" * 1000)
    environment = {
        **os.environ,
        "VIDEO_ANALYSIS_DATA_DIR": str(tmp_path / "data"),
        "VIDEO_ANALYSIS_PORT": "0",
    }
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "monolith", "serve"],
        env=environment, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert ended.returncode == 4
    assert "events.db" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_ctrl_c_in_a_terminal_leaves_children_to_the_parent(
    rough: Server, rough_client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """A terminal sends SIGINT to the whole process group."""
    video_id = await upload(rough_client, make_video(tmp_path, Recipe(frames=2)), models=COLORS)
    await until_ended(rough_client, video_id)
    children = rough.children()
    assert set(children.values()) == {"worker", "decoder"}
    for pid in children:
        os.kill(pid, signal.SIGINT)
    await asyncio.sleep(0.3)
    assert rough.children().keys() >= children.keys()
    assert "KeyboardInterrupt" not in rough.output


def test_an_export_replaces_no_device(tmp_path: Path) -> None:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    export = Export(path, "json")
    with contextlib.suppress(OSError):
        export.open()
        export.commit()
    export.close()
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_an_upload_leaves_the_disk_room_that_must_stay_free(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], check=True)
    try:
        async with Server(disk, WORKERS="1", MIN_FREE_BYTES="16000000") as server, server.client() as client:
            answer, least = await flood(client, disk)
            assert answer.status_code in (413, 503, 507)
            assert least >= 15_000_000
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def flood(client: httpx.AsyncClient, disk: Path) -> tuple[httpx.Response, int]:
    """Upload more than `disk` holds; the answer, and the least room that was seen meanwhile, in bytes."""
    least = shutil.disk_usage(disk).free

    async def body() -> AsyncIterator[bytes]:
        nonlocal least
        yield b'--a\r\nContent-Disposition: form-data; name="file"; filename="x.mp4"\r\n\r\n'
        for _ in range(120):
            least = min(least, shutil.disk_usage(disk).free)
            yield b"x" * (1 << 19)
        yield b"\r\n--a--\r\n"

    kind: dict[str, Any] = {"Content-Type": "multipart/form-data; boundary=a"}
    return await client.post("/analysis/upload", content=body(), headers=kind), least
