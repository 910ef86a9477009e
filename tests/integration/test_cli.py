"""The command line as users call it: a process of its own, real videos, real exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import av
import msgspec
import polars as pl
import pytest

from monolith.cli.exits import Exit
from tests.program import Server
from tests.videos import Recipe, make_video

_DEADLINE = 200


class Ended(msgspec.Struct):
    code: int
    out: str
    err: str


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """The program in `folder`, with its data in `data` there."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VIDEO_ANALYSIS_")
    }
    root = str(Path(__file__).parents[2])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monolith", *arguments, cwd=folder, env=environment | {"PYTHONPATH": root},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(_DEADLINE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(folder: Path, *arguments: str) -> Ended:
    return await ended(await start(folder, *arguments))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """40 frames."""
    return make_video(tmp_path, Recipe(frames=40), "clip")


async def test_analyze_makes_tables_files_and_annotated_videos(clip: Path, tmp_path: Path) -> None:
    done = await run(
        tmp_path, "analyze", "clip.mp4", "--models", "color", "--frame-step", "10", "--name", "my clip",
        "--out", "found.parquet", "--annotated", "annotated.mp4", "--json",
    )  # fmt: skip
    assert done.code == Exit.OK, done.err
    (video,) = json.loads(done.out)["videos"]
    assert video["analysis"]["video_name"] == "my clip"
    assert (video["analysis"]["status"], video["analysis"]["frames_analyzed"]) == ("Completed", 4)
    assert video["found"]["frames"] == 4
    table = pl.read_parquet(tmp_path / "found.parquet")
    assert table["frame_number"].unique().sort().to_list() == [10, 20, 30, 40]
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


async def test_several_videos_run_at_once_into_one_table_and_folders(clip: Path, tmp_path: Path) -> None:
    make_video(tmp_path, Recipe(frames=20), "other")
    done = await run(
        tmp_path, "analyze", "clip.mp4", "other.mp4", "--models", "color", "--frame-step", "10",
        "--out", "found.csv", "--annotated", "frames",
    )  # fmt: skip
    assert done.code == Exit.OK, done.err
    assert "clip.mp4: 4 frames" in done.out
    assert "other.mp4: 2 frames" in done.out
    assert pl.read_csv(tmp_path / "found.csv")["video_id"].n_unique() == 2
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("frames/*/*.jpg"))
    assert names == [
        *(f"frames/001-clip/{n:08d}.jpg" for n in (10, 20, 30, 40)),
        *(f"frames/002-other/{n:08d}.jpg" for n in (10, 20)),
    ]


async def test_a_bad_file_beside_a_good_one_is_told_and_counts(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video\n" * 100)
    done = await run(tmp_path, "analyze", "notes.mp4", "clip.mp4", "--models", "color", "--frame-step", "40")
    assert done.code == Exit.BAD_SOURCE
    assert "clip.mp4: 1 frames" in done.out
    assert "notes.mp4: " in done.err


async def test_a_server_that_holds_the_directory_does_the_work(clip: Path, tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        done = await run(tmp_path, "analyze", "clip.mp4", "--models", "color", "--frame-step", "20", "--json")
        assert done.code == Exit.OK, done.err
        assert f"working through the server at {server.url}" in done.err
        (video,) = json.loads(done.out)["videos"]
        assert video["analysis"]["video_url"] == "upload:clip.mp4"
        second = await run(tmp_path, "serve", "--port", "0")
        assert second.code == Exit.ENVIRONMENT
        assert f"process {server.pid} holds it and serves {server.url}" in second.err
        other = await run(tmp_path, "serve", "--data-dir", "other", "--port", server.url.rpartition(":")[2])
        assert other.code == Exit.ENVIRONMENT
        assert f"{server.url} cannot be served: " in other.err


async def test_serve_analyzes_and_then_ends_when_asked_to(clip: Path, tmp_path: Path) -> None:
    done = await run(tmp_path, "serve", "--port", "0", "--once", "--analyze", "clip.mp4")
    assert done.code == Exit.OK, done.err
    assert "clip.mp4: 40 frames" in done.out
    assert "/results" in done.err
    assert "web page: http://127.0.0.1:" in done.err


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    assert process.stderr is not None
    async with asyncio.timeout(_DEADLINE):
        while line := await process.stderr.readline():
            yield line.decode()


async def test_ctrl_c_ends_a_server_in_order(tmp_path: Path) -> None:
    process = await start(tmp_path, "serve", "--port", "0")
    async for line in _lines(process):
        if "serving http://127.0.0.1:" in line:
            process.send_signal(signal.SIGINT)
            break
    assert (await ended(process)).code == Exit.OK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_ctrl_c_and_its_like_cancel_an_analysis(number: signal.Signals, tmp_path: Path) -> None:
    make_video(tmp_path, Recipe(frames=1500), "long")
    (tmp_path / "video-analysis.toml").write_text('log_level = "info"\n')
    before = signal.signal(
        number, signal.SIG_DFL
    )  # what the tests' own parent ignores, the program would, too
    try:
        process = await start(tmp_path, "analyze", "long.mp4")
    finally:
        signal.signal(number, before)
    async for line in _lines(process):
        if "ready" in line:
            process.send_signal(number)
            break
    done = await ended(process)
    assert done.code == Exit.INTERRUPTED, done.err
    assert "interrupted" in done.err


async def test_a_script_that_ignores_ctrl_c_can_end_it_all_the_same(tmp_path: Path) -> None:
    """Shells let their background jobs ignore SIGINT; SIGTERM must not depend on that."""
    make_video(tmp_path, Recipe(frames=1500), "long")
    (tmp_path / "video-analysis.toml").write_text('log_level = "info"\n')
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = await start(tmp_path, "analyze", "long.mp4")
    finally:
        signal.signal(signal.SIGINT, before)
    async for line in _lines(process):
        if "ready" in line:
            process.send_signal(signal.SIGTERM)
            break
    assert (await ended(process)).code == Exit.INTERRUPTED


async def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    done = await run(tmp_path, "serve", "--data-dir", "/proc/self/nowhere")
    assert (done.code, done.out) == (Exit.ENVIRONMENT, "")
    assert "the data directory /proc/self/nowhere cannot be made" in done.err
