"""How long a retention of many segments takes in a real server, and how its API fares meanwhile:
`python -m benchmarks.retention [segments]`.

Half of the segments are one live video of days, the others are in files of a hundred segments each.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.read_models import MODEL
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.application.retention_report import DAY_SECONDS
from monolith.domain.detection import ObjectDetection
from monolith.domain.events import (
    DOMAIN_EVENTS,
    AnalysedFrame,
    DomainEvent,
    FramesAnalysed,
    FramesStored,
    RunCompleted,
    RunRequested,
    SegmentClaimed,
    SegmentClosed,
    SegmentCompleted,
    SegmentsPlanned,
    SourceEnded,
    VideoProbed,
    VideoSubmitted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.ids import new_id
from monolith.domain.segment import SegmentPlan, SourceInfo, StoredFrame
from monolith.storage import FileStorage
from tests.program import Server

SEGMENTS: Final = 10_000
FRAMES: Final = 24
"""In each segment."""
_BATCH: Final = 8
_JPEG: Final = b"\xff\xd8" + bytes(2000) + b"\xff\xd9"
_FILE_SEGMENTS: Final = 100
_AGE_DAYS: Final = 60
_READS_PER_SECOND: Final = 40
_QUIET_SECONDS: Final = 10.0
_APPENDS_AT_ONCE: Final = 200
_CAR: Final = ObjectDetection(class_id=2, class_name="car", confidence=0.7, xyxy=(10.0, 20.0, 110.5, 70.25))

Step = tuple[str, DomainEvent]


class _Video:
    """A completed video of `segments` segments, as events."""

    def __init__(self, segments: int, *, live: bool) -> None:
        self.video_id, self.run_id = new_id(), new_id()
        self.segments = segments
        self.live = live

    def pack(self, segment: int) -> str:
        return f"{segment:06d}-{self.run_id}-001.mjpeg"

    def events(self) -> Iterator[Step]:
        yield from self._beginning()
        for segment in range(self.segments):
            yield from self._segment(segment)
        yield from self._end()

    def _about(self, event: DomainEvent) -> Step:
        return video_stream(self.video_id), event

    def _beginning(self) -> Iterator[Step]:
        yield self._about(
            VideoSubmitted(
                video_id=self.video_id, video_name="bench", video_url="http://example.org/a", source_kind="url",
                location="http://example.org/a", submitted_at=1.0,
            )
        )  # fmt: skip
        yield self._about(
            RunRequested(
                video_id=self.video_id, run_id=self.run_id, models=(MODEL.key,), frame_step=1, max_height=720,
                jpeg_quality=90, infer_from="stored", requested_at=1.0,
            )
        )  # fmt: skip
        plans = tuple(map(self._plan, range(self.segments)))
        info = SourceInfo(
            container="x", codec="h264", width=1280, height=720, rotation=0, duration=None, frame_rate=1.0,
            frames=None if self.live else self.segments * FRAMES, indexed=not self.live, pts_digest=None,
            truncated=None, segments=() if self.live else plans, live=self.live,
        )  # fmt: skip
        yield self._about(
            VideoProbed(
                video_id=self.video_id, path="", spooled=False, size_bytes=0, source=info, ingest_seconds=0.1,
                transport="rtsp" if self.live else "file",
            )
        )  # fmt: skip
        if not self.live:
            yield self._about(
                SegmentsPlanned(video_id=self.video_id, segments=plans, pts_digest=None, final=True)
            )

    def _plan(self, segment: int) -> SegmentPlan:
        first = segment * FRAMES + 1
        return SegmentPlan(
            segment=segment, first_frame=first, last_frame=None if self.live else first + FRAMES - 1
        )

    def _segment(self, segment: int) -> Iterator[Step]:
        if self.live:
            yield self._about(
                SegmentsPlanned(
                    video_id=self.video_id, segments=(self._plan(segment),), pts_digest=None, final=False
                )
            )
        here: dict[str, Any] = {"video_id": self.video_id, "segment": segment}
        ours = {**here, "run_id": self.run_id}
        frames, results = frames_stream(self.video_id, segment), results_stream(self.run_id, segment)
        claimed = SegmentClaimed(**ours, attempt=1, owner="bench", claimed_at=1.0)
        yield results, claimed
        yield frames, claimed
        first = segment * FRAMES + 1
        for start in range(first, first + FRAMES, _BATCH):
            numbers = range(start, min(start + _BATCH, first + FRAMES))
            yield frames, self._stored(here, segment, numbers)
            yield results, self._analysed(ours, numbers)
        counts: dict[str, Any] = {"frames": FRAMES, "dropped": 0, "last_frame": first + FRAMES - 1}
        yield results, SegmentClosed(**ours, **counts, attempt=1, end_of_source=False)
        yield self._about(SegmentCompleted(**ours, **counts))

    def _stored(self, here: dict[str, Any], segment: int, numbers: range) -> FramesStored:
        return FramesStored(
            **here, attempt=1, pack=self.pack(segment), decode_seconds=0.1, resize_seconds=0.02, encode_seconds=0.1,
            frames=tuple(
                StoredFrame(
                    frame_number=n, timestamp=float(n), offset=(n - 1) % FRAMES * len(_JPEG), length=len(_JPEG),
                    width=1280, height=720,
                )
                for n in numbers
            ),
        )  # fmt: skip

    def _analysed(self, ours: dict[str, Any], numbers: range) -> FramesAnalysed:
        return FramesAnalysed(
            **ours, attempt=1, model=MODEL,
            frames=tuple(
                AnalysedFrame(
                    frame_number=n, timestamp=float(n), detections=(_CAR, _CAR), started_at=1.0, seconds=0.0101
                )
                for n in numbers
            ),
        )  # fmt: skip

    def _end(self) -> Iterator[Step]:
        frames = self.segments * FRAMES
        if self.live:
            yield self._about(SourceEnded(video_id=self.video_id, frames=frames))
        yield self._about(
            RunCompleted(
                video_id=self.video_id, run_id=self.run_id, frames=frames, dropped=0, greatest_frame=frames,
                coverage=1.0, completed_at=2.0,
            )
        )  # fmt: skip


async def fill(folder: Path, segments: int) -> list[_Video]:
    """Videos that were analysed `_AGE_DAYS` days ago, with their frame packs; and one of today, the last."""
    folder.mkdir()
    files = max(1, segments // 2 // _FILE_SEGMENTS)
    videos = [_Video(segments - files * _FILE_SEGMENTS, live=True)]
    videos += [_Video(_FILE_SEGMENTS, live=False) for _ in range(files)]
    then = time.time() - _AGE_DAYS * DAY_SECONDS
    await _write(folder, videos, then)
    today = _Video(_FILE_SEGMENTS, live=False)
    await _write(folder, [today], time.time())
    return [*videos, today]


async def _write(folder: Path, videos: list[_Video], now: float) -> None:
    storage = FileStorage(folder)
    await asyncio.to_thread(storage.prepare)
    store = await SqliteEventStore.open(folder / "events.db", clock=lambda: now)
    for video in videos:
        await storage.prepare_video(video.video_id)
        await asyncio.to_thread(_write_packs, storage, video)
        await _append(store, list(video.events()))
    await store.close()


def _write_packs(storage: FileStorage, video: _Video) -> None:
    for segment in range(video.segments):
        storage.pack_path(video.video_id, video.pack(segment)).write_bytes(_JPEG * FRAMES)


async def _append(store: SqliteEventStore, steps: list[Step]) -> None:
    codec = EventCodec(DOMAIN_EVENTS)
    for first in range(0, len(steps), _APPENDS_AT_ONCE):
        some = steps[first : first + _APPENDS_AT_ONCE]
        await asyncio.gather(
            *(store.append(stream, [codec.encode(event)], expected_version=ANY) for stream, event in some)
        )


@asynccontextmanager
async def reading(server: Server, video: _Video) -> AsyncIterator[list[float]]:
    """Users who look at a video, `_READS_PER_SECOND` times a second; how long each answer took, in seconds."""
    latencies: list[float] = []
    paths = [
        f"/analysis/{video.video_id}", f"/analysis/{video.video_id}/results?limit=50",
        f"/analysis/{video.video_id}/frame/7?annotated=false", "/analysis/videos?limit=20",
    ]  # fmt: skip

    async def read(client: httpx.AsyncClient, path: str) -> None:
        started = time.perf_counter()
        (await client.get(path)).raise_for_status()
        latencies.append(time.perf_counter() - started)

    async def run() -> None:
        async with server.client() as client, asyncio.TaskGroup() as group:
            number = 0
            while True:
                group.create_task(read(client, paths[number % len(paths)]))
                number += 1
                await asyncio.sleep(1 / _READS_PER_SECOND)

    task = asyncio.create_task(run())
    try:
        yield latencies
    finally:
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def _let_go(client: httpx.AsyncClient, **body: object) -> tuple[float, dict[str, Any]]:
    """Seconds from asking to the report, and the report."""
    started = time.perf_counter()
    report = (await client.post("/retention", json={"days": 30, **body})).raise_for_status().json()
    while report["state"] == "running":
        await asyncio.sleep(0.1)
        report = (await client.get("/retention")).raise_for_status().json()["last"]
    if report["state"] != "done":
        raise RuntimeError(report["error"])
    return time.perf_counter() - started, report


async def run(segments: int = SEGMENTS) -> dict[str, float]:
    """How many segments went in how many seconds, and milliseconds of API answers before and meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = await fill(folder / "data", segments)
        server = Server(folder, WORKERS="1", WORKER_THREADS="1")
        await server.start(wait=False)
        try:
            await server.until_ready(600)
            return await _measure(server, videos, segments)
        finally:
            await server.stop()


async def _measure(server: Server, videos: list[_Video], segments: int) -> dict[str, float]:
    async with server.client() as client:
        async with reading(server, videos[-1]) as quiet:
            await asyncio.sleep(_QUIET_SECONDS)
        dry, _ = await _let_go(client, dry_run=True)
        async with reading(server, videos[-1]) as busy:
            seconds, report = await _let_go(client)
    assert report["segments"] == report["segments_purged"] == segments, report
    return {
        "segments": float(segments),
        "frame_results": float(report["frames"]),
        "megabytes_freed": report["bytes_freed"] / 1e6,
        "dry_run_seconds": dry,
        "seconds": seconds,
        "api_median_ms": statistics.median(busy) * 1000,
        "api_p99_ms": _p99(busy) * 1000,
        "api_median_before_ms": statistics.median(quiet) * 1000,
        "api_p99_before_ms": _p99(quiet) * 1000,
        "api_p99_ratio": _p99(busy) / _p99(quiet),
        "main_process_mb": server.memory_mb(),
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


if __name__ == "__main__":
    for key, value in asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else SEGMENTS)).items():
        print(f"{key:20} {value:12.2f}")
