"""Running it: the end under load, a second signal, a full disk in the midst of work, the log, systemd, the doctor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.files import http_server
from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload
from tests.videos import make_video

MODELS = ("color_detection", "objects_detection")
STEP = 2
ALL_FRAMES = 250
"""Of `bikes.mp4`. They take some seconds, so that what is to happen meanwhile does."""
FRAMES = ALL_FRAMES // STEP


@asynccontextmanager
async def stalled_upload(server: Server) -> AsyncIterator[asyncio.StreamReader]:
    """A client that sends the beginning of an upload, and nothing more."""
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /analysis/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 10000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    )
    uploads = server.folder / "data" / "uploads"
    others = set(uploads.iterdir())
    writer.write(head.encode() + b"x" * 100_000)
    await writer.drain()
    async with asyncio.timeout(60):
        while not set(uploads.iterdir()) - others:
            await asyncio.sleep(0.02)
    try:
        yield reader
    finally:
        writer.close()


@asynccontextmanager
async def event_stream(client: httpx.AsyncClient, video_id: str) -> AsyncIterator[asyncio.Task[list[str]]]:
    """Lines of the video's events until the stream ends."""
    begun = asyncio.Event()

    async def read() -> list[str]:
        lines = []
        async with client.stream("GET", f"/analysis/{video_id}/events/stream", timeout=None) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                begun.set()
        return lines

    reading = asyncio.create_task(read())
    await begun.wait()
    try:
        yield reading
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def until_frames(client: httpx.AsyncClient, video_id: str, count: int = 1) -> int:
    async with asyncio.timeout(60):
        while True:
            body = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
            if body["frames_analyzed"] >= count:
                return int(body["frames_analyzed"])
            await asyncio.sleep(0.02)


async def test_under_load_it_ends_in_order_and_loses_nothing(tmp_path: Path) -> None:
    """An analysis, a stalled upload, an event stream and a client that does not read: none of them keeps it."""
    async with Server(tmp_path, SHUTDOWN_DEADLINE="16", PRECISION="f32") as server:
        async with server.client() as client:
            video_id = await upload(
                client, sample_clip("bikes.mp4"), models=("objects_detection",), frame_step=STEP
            )
            await until_frames(client, video_id)
            port = int(server.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as deaf:
                deaf.sendall(
                    f"GET /analysis/{video_id}/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                )
                async with (
                    stalled_upload(server) as refused,
                    event_stream(client, video_id) as events,
                ):
                    assert await server.stop() == 0
                    assert (await refused.readline()).startswith(b"HTTP/1.1 503")
                    assert any(line.startswith("data:") for line in await events)
        assert "Traceback" not in server.output
        assert "a request was cut off by the end of the server" in server.output
        left = list((server.folder / "data" / "uploads").glob("*.upload"))
        assert len(left) <= 1  # that of the analysis, unless it was done by then
        await server.start()
        async with server.client() as client:
            body = await until_ended(client, video_id)
            assert (body["status"], body["frames_analyzed"]) == ("Completed", FRAMES)
            rows = await result_rows(client, video_id)
        assert len(rows) == len({row[0] for row in rows}) == FRAMES
    assert "Traceback" not in server.output
    assert "by force" not in server.output


async def test_a_closed_terminal_ends_no_server_and_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    async with Server(tmp_path, SHUTDOWN_DEADLINE="600") as server:
        os.kill(server.pid, signal.SIGHUP)
        async with asyncio.timeout(60):
            while "SIGHUP" not in server.output:
                await asyncio.sleep(0.02)
        async with server.client() as client:
            assert (await client.get("/health/ready")).status_code == 200
        async with stalled_upload(server):
            os.kill(server.pid, signal.SIGTERM)
            async with asyncio.timeout(60):
                while "SIGTERM: ending, within 600 s" not in server.output:
                    await asyncio.sleep(0.02)
            assert await server.stop() == 0
        assert "SIGTERM again: ending without waiting for anyone" in server.output
        assert "Traceback" not in server.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_disk_that_fills_up_pauses_work_in_hand_and_refuses_new(
    small_disk: Path, tmp_path: Path
) -> None:
    async with (
        Server(small_disk, MIN_FREE_BYTES="40 MiB", PRECISION="f32") as server,
        server.client() as client,
    ):
        video_id = await upload(client, sample_clip("bikes.mp4"), models=MODELS)
        await until_frames(client, video_id)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"\0" * (shutil.disk_usage(small_disk).free - (39 << 20)))
        await until_not_ready(client, "disk")
        for answer in (await start(client), await small_upload(client, tmp_path)):
            assert answer.status_code == 507
            assert answer.json()["type"].endswith(":no-room")
            assert "remove videos, or make room" in answer.json()["detail"]
        paused = await until_it_stands(client, video_id)
        assert 0 < paused < ALL_FRAMES
        assert (await client.get("/metrics")).text.count("video_analysis_disk_full 1.0") == 1
        ballast.unlink()
        body = await until_ended(client, video_id)
        assert (body["status"], body["frames_analyzed"]) == ("Completed", ALL_FRAMES)
        assert (await client.get("/health/ready")).status_code == 200
        await retention_needs_a_little_room(client, small_disk)
    log = server.output
    assert log.count("no new work is taken in, work in hand waits: the disk of") == 2
    assert 1 <= log.count("there is room on the disk again: work goes on") <= 2


async def retention_needs_a_little_room(client: httpx.AsyncClient, disk: Path) -> None:
    """What goes is written down first. Without a byte for it nothing goes; later it does."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    assert shutil.disk_usage(disk).free == 0
    answer = await client.post("/retention", json={"days": 0})
    assert answer.status_code == 507, answer.text
    assert answer.json()["type"].endswith(":no-room")
    assert "is nearly full: 0 MiB are free" in answer.json()["detail"]
    ballast.unlink()
    again = (await client.post("/retention", json={"days": 0})).raise_for_status().json()
    async with asyncio.timeout(60):
        while again["state"] == "running":
            await asyncio.sleep(0.05)
            again = (await client.get("/retention")).json()["last"]
    assert (again["state"], again["videos"], again["frames"]) == ("done", 1, ALL_FRAMES), again


async def start(client: httpx.AsyncClient) -> httpx.Response:
    body = {"videoURL": "http://127.0.0.1:9/x.mp4", "modelsToRun": ["color_detection"]}
    return await client.post("/analysis/start", json=body)


async def small_upload(client: httpx.AsyncClient, folder: Path) -> httpx.Response:
    clip = make_video(folder)
    files = {"file": (clip.name, clip.read_bytes(), "video/mp4")}
    return await client.post("/analysis/upload", files=files, data={"modelsToRun": "color_detection"})


async def until_not_ready(client: httpx.AsyncClient, part: str) -> None:
    async with asyncio.timeout(60):
        while part not in (await client.get("/health/ready")).json()["reasons"]:
            await asyncio.sleep(0.05)


async def until_it_stands(client: httpx.AsyncClient, video_id: str) -> int:
    """The frames that are analysed once there have been no more of them for a while."""
    before, same = -1, 0
    async with asyncio.timeout(60):
        while same < 10:
            await asyncio.sleep(0.2)
            now = await until_frames(client, video_id)
            before, same = now, same + 1 if now == before else 0
    return before


async def test_the_log_is_json_and_says_what_each_line_is_about(tmp_path: Path) -> None:
    make_video(tmp_path)
    (tmp_path / "notes.mp4").write_text("no video\n" * 1000)
    async with (
        http_server(tmp_path) as files,
        Server(tmp_path, LOG_FORMAT="json", LOG_LEVEL="debug") as server,
        server.client() as client,
    ):
        url = f"{files.replace('http://', 'http://me:hunter2@')}/hang?token=hunter2"
        body = {"videoURL": url, "modelsToRun": ["color_detection"]}
        headers = {"X-Request-ID": "my-request.1"}
        answer = await client.post("/analysis/start?key=hunter2", json=body, headers=headers)
        assert answer.headers["x-request-id"] == "my-request.1"
        video_id = answer.json()["video_id"]
        assert (await client.get(f"/analysis/{video_id}", headers={"X-Request-ID": "no\tsane\tone"})).headers[
            "x-request-id"
        ] != "no\tsane\tone"
        lost = await upload(client, sample_clip("bikes.mp4"), models=MODELS)
        await until_frames(client, lost)
        for pid, kind in server.children().items():
            if kind == "decoder":
                os.kill(pid, signal.SIGKILL)
        assert (await until_ended(client, lost))["status"] == "Completed"
    lines: list[dict[str, Any]] = [json.loads(line) for line in server.output.splitlines()]
    assert all({"time", "level", "logger", "message", "process"} <= line.keys() for line in lines)
    assert "hunter2" not in server.output
    (asked,) = [line for line in lines if line.get("request_id") == "my-request.1" and "route" in line]
    assert (asked["method"], asked["route"], asked["status"]) == ("POST", "/analysis/start", 201)
    assert asked["milliseconds"] > 0 and asked["client"] == "127.0.0.1"
    about = [line for line in lines if line.get("video_id") == lost and line.get("job") == "segment"]
    assert about and all(line["run_id"] and line["segment"] == 0 for line in about)
    assert any("killed by signal 9" in line["message"] for line in about)
    assert any(line["message"].startswith("serving http://") for line in lines)


async def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        async with Server(tmp_path) as server:
            said = [(await asyncio.to_thread(systemd.recv, 4096)).decode() for _ in range(3)]
            assert said == [f"READY=1\nSTATUS=serving {server.url}", "WATCHDOG=1", "WATCHDOG=1"]
            assert await server.stop() == 0
            rest = list(_waiting(systemd))
    assert rest[-1].startswith("STOPPING=1")


def _waiting(listening: socket.socket) -> Iterator[str]:
    """Messages that have come."""
    listening.setblocking(False)
    try:
        while True:
            yield listening.recv(4096).decode()
    except BlockingIOError:
        return


async def test_the_doctor_looks_on_while_a_server_runs(server: Server) -> None:
    environment = {
        **os.environ,
        "VIDEO_ANALYSIS_DATA_DIR": str(server.folder / "data"),
        "VIDEO_ANALYSIS_PORT": server.url.rpartition(":")[2],
    }
    command = [sys.executable, "-m", "monolith", "doctor", "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
    )
    report = json.loads(done.stdout)
    found = {finding["check"]: finding["found"] for finding in report["findings"]}
    assert (done.returncode, report["healthy"]) == (0, True), report
    assert found["server"] == f"{server.url} is ready"
    assert "is that of the server of this data directory" in found["port"]
    assert "H.264" in found["codecs"] and found["event store"].endswith("sound (checked)")
    environment["VIDEO_ANALYSIS_MIN_FREE_BYTES"] = "1000 TiB"
    done = await asyncio.to_thread(
        subprocess.run, command[:-1], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "VIDEO_ANALYSIS_MIN_FREE_BYTES" in done.stdout and "1 problem," in done.stdout
