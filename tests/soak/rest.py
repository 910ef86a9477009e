"""The program at rest: nobody publishes or watches, nothing is left to do. What it holds then must not grow."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from tests.peers.processes import children_of
from tests.program import Server
from tests.soak.stage import DELETED, Stage

NOTHING_LEFT: Final = (
    "rtmp_connections", "published_videos", "webrtc_publishers", "viewers", "live_encoders",
    "followed_sources", "decoders_busy", "jobs_running", "jobs_waiting", "open_videos", "event_streams",
    "frame_slots_in_use", "frame_slots_wanted", "inference_frames_in_flight", "inference_queue_length",
    "projection_lag_events", "projection_parked_events", "unreadable_videos", "event_store_queue_length",
)  # fmt: skip
"""Gauges that are 0 at rest, for all of their labels."""
_REST_SECONDS: Final = 90.0
_TROUBLE: Final = re.compile(
    r"Traceback|\b(ERROR|CRITICAL)\b|never retrieved|never awaited|[Uu]nclosed|was destroyed"
    r"|Exception (ignored|in callback)|Fatal"
)
_EMPTY_FOLDERS: Final = ("secrets", "uploads", "annotating")


class Level(NamedTuple):
    """What the main process holds. `memory`: megabytes that are its own (pages of files, such as libraries and the read
    models, are the system's, and shared frame slots are counted once for all), without `databases`: what SQLite keeps
    for itself; `files`: open ones, without those for its children; `child_memory`: of its inference processes, on
    average."""

    memory: float
    databases: float
    files: int
    threads: int
    tasks: int
    child_memory: float
    videos: int


async def rest(stage: Stage) -> Level:
    """Wait until nothing is left to do. Raises AssertionError with what is left."""
    deadline = time.monotonic() + _REST_SECONDS
    while left := _left(await _metrics(stage.client)):
        assert time.monotonic() < deadline, f"left over: {left}\n{stage.server.output[-3000:]}"
        await asyncio.sleep(0.25)
    return _level(stage.server, await _metrics(stage.client), len(stage.expected))


async def check_videos(stage: Stage) -> None:
    """Each video has ended as it may."""
    wrong = {}
    for video_id, ends in stage.expected.items():
        answer = await stage.client.get(f"/analysis/{video_id}")
        end = "deleted" if answer.status_code == 404 else answer.json()["status"]
        if end not in ends:
            wrong[video_id] = (end, sorted(ends), answer.text)
    assert not wrong, wrong
    for status in ("Pending", "Processing"):
        left = (
            (await stage.client.get("/analysis/videos", params={"status": status})).raise_for_status().json()
        )
        assert left == []
    assert (await stage.client.get("/health/ready")).status_code == 200


def check_files(stage: Stage) -> None:
    """No secret, no temporary file, no frame of a video that was deleted is left."""
    data = stage.server.folder / "data"
    assert [path.name for path in (data / "run").iterdir()] == ["live.sock"]
    for name in _EMPTY_FOLDERS:
        assert list((data / name).glob("*")) == [], name
    deleted = {video_id for video_id, ends in stage.expected.items() if ends == DELETED}
    assert deleted.isdisjoint(path.name for path in (data / "videos").iterdir())


def check_log(server: Server) -> None:
    lines = server.output.splitlines()
    trouble = [number for number, line in enumerate(lines) if _TROUBLE.search(line)]
    assert not trouble, "\n".join("\n".join(lines[max(0, at - 3) : at + 30]) for at in trouble[:5])


async def _metrics(client: httpx.AsyncClient) -> dict[str, float]:
    """Name with labels → value."""
    text = (await client.get("/metrics")).raise_for_status().text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("video_analysis_"): float(value) for name, _, value in lines}


def _left(metrics: dict[str, float]) -> dict[str, float]:
    values = {name: value for name, value in metrics.items() if name.partition("{")[0] in NOTHING_LEFT}
    assert {name.partition("{")[0] for name in values} == set(NOTHING_LEFT)
    return {name: value for name, value in values.items() if value}


def _level(server: Server, metrics: dict[str, float], videos: int) -> Level:
    process = Path(f"/proc/{server.pid}")
    family = children_of(server.pid)
    workers = [pid for pid, line in family.items() if "inference.worker" in line]
    databases = metrics["database_memory_bytes"] / (1 << 20)
    return Level(
        _own_mb(server.pid) - databases,
        databases,
        len(list((process / "fd").iterdir())) - _FILES_A_CHILD * len(family),
        len(list((process / "task").iterdir())),
        int(metrics["event_loop_tasks"]),
        sum(map(_own_mb, workers)) / max(1, len(workers)),
        videos,
    )


_FILES_A_CHILD: Final = 3
"""Its link, what it says, and what tells of its end."""


def _own_mb(pid: int) -> float:
    """Resident memory that no file lies behind."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
