"""Annotated videos of real analyses: what is drawn, and what becomes of them when things go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from monolith.frames.jpeg import Picture, decode
from tests.annotated import encoders, pictures, until
from tests.media import sample_clip
from tests.program import Server, result_rows, until_ended, upload

STEP = 10
OBJECTS = "objects_detection"
_HOLD_STILL = """
import os, signal, sys
if "monolith.exports.encoder" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
"""Each encoder process stops at its start, by itself: from without it might be caught too late."""


async def analysed(client: httpx.AsyncClient, models: tuple[str, ...] = (OBJECTS,)) -> str:
    video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=STEP, models=models)
    assert (await until_ended(client, video_id))["status"] == "Completed"
    return video_id


def near(shape: tuple[int, ...], boxes: list[list[float]]) -> Picture:
    """Where boxes and their labels may be drawn: height × width of booleans."""
    where = np.zeros(shape[:2], bool)
    for left, top, width, height in boxes:
        x, y = max(0, int(left) - 4), max(0, int(top) - 24)
        # Codecs blur edges; a label may be wider than its box, and lie within it where there is no room above.
        where[y : int(top) + 28, max(0, x - 140) : x + 160] = True
        where[y : int(top + height) + 8, x : x + 12] = True
        where[y : int(top + height) + 8, int(left + width) - 8 : int(left + width) + 8] = True
        where[int(top + height) - 8 : int(top + height) + 8, x : int(left + width) + 8] = True
    return np.asarray(where)


async def test_boxes_are_drawn_into_the_stored_frames(client: httpx.AsyncClient, tmp_path: Path) -> None:
    video_id = await analysed(client)
    path = f"/analysis/{video_id}/annotated"
    assert (await client.post(path)).status_code == 202
    state = await until(client, path, "ready")
    shown = pictures((await client.get(state["url"])).content, tmp_path)
    rows = (await client.get(f"/analysis/{video_id}/results")).json()
    assert [time for time, _ in shown] == pytest.approx([row["video_timestamp"] for row in rows], abs=0.001)
    drawn = 0
    for row, (_, picture) in zip(rows, shown, strict=True):
        number = row["frame_number"]
        stored = decode((await client.get(f"/analysis/{video_id}/frame/{number}?annotated=false")).content)
        difference = np.abs(picture.astype(int) - stored.astype(int)).max(axis=2) > 70
        boxes = [found["coordinates"] for found in row["inference_results"]]
        assert difference[~near(picture.shape, boxes)].mean() < 0.002, number
        for left, top, width, height in boxes:
            edge = difference[int(top) + 2 : int(top + height) - 2, int(left) : int(left) + 2]
            drawn += bool(width > 10 and edge.size and edge.any(axis=1).mean() > 0.5)
    assert drawn > 20


async def test_all_models_are_shown_and_the_documents_fit(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Every image of COCO is a picture of the video; every cue lies within it."""
    video_id = await analysed(client, ("color_detection", "emotions_detection", OBJECTS))
    await client.get(f"/analysis/{video_id}/annotated.mp4")
    state = await until(client, f"/analysis/{video_id}/annotated", "ready")
    coco = (await client.get(f"/analysis/{video_id}/coco.json")).json()
    assert len(coco["images"]) == state["frames"] == 250 // STEP
    assert all(len(image["palette"]) == 3 for image in coco["images"])
    rows = await result_rows(client, video_id)
    shown = (await client.get(f"/analysis/{video_id}/coco.json", params={"min_confidence": 0})).json()
    boxes = sum("coordinates" in found for row in rows for found in row[3])
    assert len(shown["annotations"]) == boxes > len(coco["annotations"]) > 0
    assert {one["image_id"] for one in coco["annotations"]} <= {image["id"] for image in coco["images"]}
    vtt = (await client.get(f"/analysis/{video_id}/subtitles.vtt")).text
    assert "person" in vtt
    last = max(line.split(" --> ")[1] for line in vtt.splitlines() if " --> " in line)
    assert last <= f"00:00:{state['duration'] + 0.001:06.3f}"


async def held_encoder(server: Server) -> int:
    """The encoder process of `server` that holds still. It goes on with SIGCONT."""
    async with asyncio.timeout(60):
        while not (found := [pid for pid in encoders(server.pid) if is_stopped(pid)]):
            await asyncio.sleep(0.01)
    return found[0]


def is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # it is gone
        return False


async def test_kills_cancellations_and_deletions_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(_HOLD_STILL)
    server = Server(tmp_path, PRECISION="f32")
    server.variables = {"PYTHONPATH": str(tmp_path / "python")}
    async with server, server.client() as client:
        data = tmp_path / "data"
        video_id = await analysed(client)
        path = f"/analysis/{video_id}/annotated"

        await client.post(path)
        os.kill(await held_encoder(server), signal.SIGKILL)
        assert "was killed by signal 9" in (await until(client, path, "failed"))["error"]

        await client.post(path)
        await held_encoder(server)
        assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == 404
        assert not encoders(server.pid)

        await client.post(path)
        pid = await held_encoder(server)
        await server.kill()
        async with asyncio.timeout(60):
            while Path(f"/proc/{pid}").exists():
                with contextlib.suppress(
                    ProcessLookupError
                ):  # held still before it knew its parent, it must look now
                    os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.02)
        await server.start()
        assert not list((data / "annotating").iterdir())
        assert (await client.get(path)).status_code == 404

        await client.post(path)
        await held_encoder(server)
        assert (await client.delete(f"/analysis/{video_id}")).status_code == 204
        assert not encoders(server.pid)
        async with asyncio.timeout(60):
            while (data / "videos" / video_id).exists():
                await asyncio.sleep(0.02)
        assert not list((data / "annotating").iterdir())
        assert "Traceback" not in server.output


async def test_the_command_line_fetches_it(server: Server, client: httpx.AsyncClient, tmp_path: Path) -> None:
    video_id = await analysed(client)
    done = await asyncio.to_thread(export, server, video_id, tmp_path / "found.mp4")
    assert done.returncode == 0, done.stderr
    fetched = (tmp_path / "found.mp4").read_bytes()
    assert (await client.get(f"/analysis/{video_id}/annotated.mp4")).content == fetched
    assert len(pictures(fetched, tmp_path)) == 250 // STEP
    wrong = await asyncio.to_thread(export, server, video_id, tmp_path / "found.mp4", "--label", "car")
    assert wrong.returncode == 2
    assert "--label does not go with mp4" in wrong.stderr


def export(server: Server, video_id: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment: dict[str, Any] = {**os.environ, "VIDEO_ANALYSIS_DATA_DIR": str(server.folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "monolith", "export", video_id, "--out", str(out), *more],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
