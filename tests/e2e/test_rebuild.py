"""`video-analysis rebuild`, alone and beside a running server, undisturbed and killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from benchmarks.rebuild import fill
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.domain.events import DOMAIN_EVENTS, RunCompleted, video_stream
from monolith.readmodels import files
from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload
from tests.readmodel_rows import assert_same_rows, count

WAIT = 60.0
FRAME_STEP = 10
MANY = 30_000
"""Frame results, so that a rebuild takes about a second."""
TRIES = 5
"""On a busy machine a rebuild may be over before it is interrupted."""
KILLS = 2
"""One at any moment, one close to the end."""


async def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`video-analysis ARGUMENTS` on the data directory in `folder`: exit code, output, errors."""
    process = await started(folder, *arguments)
    async with asyncio.timeout(WAIT):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def started(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "VIDEO_ANALYSIS_DATA_DIR": str(folder / "data"), "NO_COLOR": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monolith", *arguments,
        env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def read_models(folder: Path) -> Path:
    return folder / "data" / "readmodels.db"


def kept(folder: Path) -> Path:
    """A copy of the read models, which nobody has open."""
    return Path(shutil.copy(read_models(folder), folder / "kept.db"))


async def rebuilt(client: Any) -> dict[str, Any]:
    """Start a rebuild of the read models; how it ended."""
    (await client.post("/rebuild", params={"projection": "read-models"})).raise_for_status()
    async with asyncio.timeout(WAIT):
        while True:
            status: dict[str, Any] = (await client.get("/rebuild")).json()
            if status["state"] != "running":
                return status
            await asyncio.sleep(0.02)


async def test_a_real_video_rebuilt_beside_the_server_and_alone(tmp_path: Path) -> None:
    """One video is analysed, another one is while the rebuilds go on; all ends with the same rows. Its worker is held
    still until there were two of them."""
    clip = sample_clip("bikes.mp4")
    async with Server(tmp_path, PRECISION="f32", SEGMENT_SECONDS="2") as server:
        async with server.client() as client:
            first = await upload(client, clip, frame_step=FRAME_STEP)
            assert (await until_ended(client, first))["status"] == "Completed"
            rows = await result_rows(client, first)
            (worker,) = (pid for pid, kind in server.children().items() if kind == "worker")
            os.kill(worker, signal.SIGSTOP)
            second = await upload(client, clip, frame_step=FRAME_STEP)
            rebuilds = 0
            while (await client.get(f"/analysis/{second}")).json()["status"] in ("Pending", "Processing"):
                assert (await rebuilt(client))["state"] == "completed"
                rebuilds += 1
                assert await result_rows(client, first) == rows
                assert (await client.get("/health/ready")).status_code == 200
                if rebuilds == 2:
                    os.kill(worker, signal.SIGCONT)
            assert (await until_ended(client, second))["status"] == "Completed"
            assert await result_rows(client, second) == rows
        code, output, errors = await run(tmp_path, "rebuild", "--projection", "read-models", "--json")
        assert code == 0, errors
        report = json.loads(output)
        assert (report["server"], report["state"]) == (server.url, "completed")
        assert f"working through the server at {server.url}" in errors
        code, _, errors = await run(tmp_path, "rebuild", "--projection", "videos")
        assert (code, "there is no projection 'videos'" in errors) == (3, True)
    assert rebuilds >= 2
    assert "Traceback" not in server.output
    live = kept(tmp_path)
    code, output, errors = await run(tmp_path, "rebuild", "--projection", "read-models")
    assert (code, output) == (0, f"read-models: built again from {events_of(report):,} events\n"), errors
    found = assert_same_rows(live, read_models(tmp_path))
    assert count(found, "videos") == 2
    assert count(found, "results") == 2 * 3 * (250 // FRAME_STEP)


def events_of(report: dict[str, Any]) -> int:
    (part,) = report["projections"]
    return int(part["events_done"])


async def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    code, _, errors = await run(tmp_path, "rebuild")
    assert (code, errors.count("name a data directory that has been used")) == (4, 1)
    (tmp_path / "data").mkdir()
    await fill(tmp_path / "data" / "events.db", 100)
    code, _, errors = await run(tmp_path, "rebuild", "--projection", "videos")
    assert code == 3
    assert "there is no projection 'videos'; those that can be rebuilt are: read-models" in errors


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with many events."""
    folder = tmp_path_factory.mktemp("big")
    (folder / "data").mkdir()
    video_ids = asyncio.run(fill(folder / "data" / "events.db", MANY))
    asyncio.run(complete(folder / "data" / "events.db", video_ids))
    assert asyncio.run(run(folder, "rebuild", "--projection", "read-models"))[0] == 0
    return folder


async def complete(path: Path, video_ids: list[str]) -> None:
    """A server that finds them open would go on with them."""
    store, codec = await SqliteEventStore.open(path), EventCodec(DOMAIN_EVENTS)
    for video_id in video_ids:
        _, requested = await store.read_stream(video_stream(video_id))
        event = RunCompleted(
            video_id=video_id, run_id=codec.decode(requested).run_id, frames=1, dropped=0,  # type: ignore[attr-defined]
            greatest_frame=1, coverage=1.0, completed_at=2.0,
        )  # fmt: skip
        await store.append(video_stream(video_id), [codec.encode(event)], expected_version=ANY)
    await store.close()


def copied(big: Path, folder: Path) -> Path:
    """The big one, to be used up."""
    shutil.copytree(big / "data", folder / "data")
    return folder


async def test_the_server_killed_in_the_midst_of_a_rebuild(tmp_path: Path, big: Path) -> None:
    folder = copied(big, tmp_path)
    server = Server(folder)
    try:
        await kill_in_a_rebuild(server, 0.97)
        for _ in range(TRIES):
            if await kill_in_a_rebuild(server, 0.02):
                break
        else:
            pytest.fail("each rebuild was over before it was interrupted")
        await server.start()
        assert not list((folder / "data").glob("*.rebuild*"))
        async with server.client() as client:
            assert (await rebuilt(client))["state"] == "completed"
        assert await server.stop() == 0
    finally:
        await server.kill()
    assert_same_rows(read_models(folder), read_models(big))


async def kill_in_a_rebuild(server: Server, progress: float) -> bool:
    """Start `server`, and kill it when its rebuild is as far as that; whether the rebuild was not yet over."""
    await server.start()
    async with server.client() as client:
        (await client.post("/rebuild", params={"projection": "read-models"})).raise_for_status()
        while (await client.get("/rebuild")).json()["progress"] < progress:
            await asyncio.sleep(0.005)
    await server.kill()
    assert await asyncio.to_thread(is_whole, read_models(server.folder))
    return files.beside(read_models(server.folder)).exists()


async def test_the_command_killed_at_any_moment(tmp_path: Path, big: Path) -> None:
    """Also in the moment of the exchange: what is there is whole each time, and the next rebuild succeeds."""
    folder, chance = copied(big, tmp_path), random.Random(7)
    for number in range(KILLS):
        process = await started(folder, "rebuild", "--projection", "read-models")
        beside = files.beside(read_models(folder))
        async with asyncio.timeout(WAIT):
            while not beside.exists() and process.returncode is None:
                await asyncio.sleep(0.005)
            if number % 2:
                await asyncio.sleep(chance.uniform(0, 1))
            else:  # close to its end
                whole = read_models(folder).stat().st_size
                while (size := size_of(beside)) is not None and size < 0.98 * whole:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(chance.uniform(0, 0.1))
            if process.returncode is None:
                process.kill()
            await process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        assert await asyncio.to_thread(is_whole, read_models(folder))
        assert_same_rows(read_models(folder), read_models(big))
    code, _, errors = await run(folder, "rebuild", "--projection", "read-models")
    assert code == 0, errors
    assert_same_rows(read_models(folder), read_models(big))
    assert not list((folder / "data").glob("*.rebuild*"))


async def test_interrupted_by_its_user_it_leaves_everything_as_it_was(tmp_path: Path, big: Path) -> None:
    folder = copied(big, tmp_path)
    code, errors = 0, b""
    for _ in range(TRIES):
        process = await started(folder, "rebuild", "--projection", "read-models")
        while not files.beside(read_models(folder)).exists() and process.returncode is None:
            await asyncio.sleep(0.002)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        code = process.returncode or 0
        if code:
            break
    assert (code, b"interrupted" in errors) == (130, True), errors
    assert sorted(path.name for path in (folder / "data").glob("readmodels*")) == ["readmodels.db"]
    assert_same_rows(read_models(folder), read_models(big))


def size_of(path: Path) -> int | None:
    """In bytes; None where there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def is_whole(path: Path) -> bool:
    connection = apsw.Connection(str(path))
    try:
        return bool(connection.execute("PRAGMA integrity_check").get == "ok")
    finally:
        connection.close()
