"""Timelines and Parquet exports from an API process of its own, against bare Polars on the same files in the same run.

`video`: 1,000,000 detections in 56 segments of 30 frames a second; `week`: a live source of one frame a second, a week
long, in 10,080 segments of a minute.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
import uvloop
from prometheus_client import CollectorRegistry

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.api.app import create_app
from monolith.api.server import ApiServer
from monolith.api.services import ApiServices
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.video_stream import VideoStreams
from monolith.domain.detection import EMOTIONS, ColorShare, Detection, FaceDetection, ObjectDetection
from monolith.domain.events import (
    DOMAIN_EVENTS,
    AnalysedFrame,
    FramesAnalysed,
    RunRequested,
    SegmentClosed,
    SegmentCompleted,
    VideoSubmitted,
    results_stream,
    video_stream,
)
from monolith.domain.ids import new_id
from monolith.domain.models import DEFAULT_THRESHOLDS, MODEL_KEYS, ModelIdentity
from monolith.readmodels.analytics import Analytics, AnalyticsProjection
from monolith.readmodels.analytics_files import TableBuilder
from monolith.readmodels.analytics_store import AnalyticsStore, indexed
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.table_export import EXPORT_SCHEMA
from monolith.secret_urls import SecretUrls
from monolith.storage import FrameGoneError

REPEATS: Final = 9
BATCH: Final = 32
SEED: Final = 20
LABELS: Final = ("person", "car", "truck", "bus", "bicycle", "dog")
PER_FRAME: Final = {"objects_detection": 6, "emotions_detection": 1, "color_detection": 3}
"""Detections of each model in each frame."""
VIDEO_SEGMENTS, VIDEO_FRAMES, VIDEO_RATE = 56, 1800, 30
WEEK_SEGMENTS, WEEK_FRAMES, WEEK_RATE = 10_080, 60, 1


class Scene(msgspec.Struct, frozen=True):
    """A video, and what it takes to count in its files by hand."""

    video_id: str
    run_id: str
    seconds: float
    root: Path

    @property
    def files(self) -> list[Path]:
        return sorted((self.root / self.video_id).rglob("*.parquet"))


def _found(model: str, dice: random.Random) -> tuple[Detection, ...]:
    count = PER_FRAME[model]
    if model == "objects_detection":
        return tuple(_object(dice) for _ in range(count))
    if model == "emotions_detection":
        return tuple(_face(number, dice) for number in range(1, count + 1))
    palette = (f"#{dice.randrange(8) * 2_105_376:06x}" for _ in range(count))
    return tuple(
        ColorShare(color=color, share=share) for color, share in zip(palette, (0.5, 0.3, 0.2), strict=True)
    )


def _object(dice: random.Random) -> ObjectDetection:
    left = dice.random() * 1000
    return ObjectDetection(
        class_id=0, class_name=dice.choice(LABELS), confidence=0.4 + 0.6 * dice.random(),
        xyxy=(left, 40.25, left + 80.125, 99.5),
    )  # fmt: skip


def _face(number: int, dice: random.Random) -> FaceDetection:
    return FaceDetection(
        face_id=number, confidence=0.5 + 0.5 * dice.random(), xyxy=(1.0, 2.0, 30.0, 40.0),
        emotion=dice.choice(EMOTIONS), emotion_probability=0.7, emotions=(),
    )  # fmt: skip


def _judged(
    scene: Scene, segment: int, model: str, frames: int, rate: int, dice: random.Random
) -> list[FramesAnalysed]:
    identity = ModelIdentity(
        key=model, name="m", version="1", digest="0" * 64, precision="f32", infer_from="stored"
    )
    numbers = range(segment * frames + 1, (segment + 1) * frames + 1)
    judged = [
        AnalysedFrame(
            frame_number=n, timestamp=n / rate, detections=_found(model, dice), started_at=1.0, seconds=0.01
        )
        for n in numbers
    ]
    return [
        FramesAnalysed(
            video_id=scene.video_id, run_id=scene.run_id, segment=segment, attempt=1, model=identity,
            frames=tuple(judged[first : first + BATCH]),
        )
        for first in range(0, frames, BATCH)
    ]  # fmt: skip


class _World:
    """The stores of the API process."""

    def __init__(self, folder: Path, models: ReadModels, analytics: Analytics) -> None:
        self.codec = EventCodec(DOMAIN_EVENTS)
        self.store = MemoryEventStore()
        self.models = models
        self.analytics = analytics
        self.folder = folder

    async def begin(self, seconds: float) -> Scene:
        scene = Scene(new_id(), new_id(), seconds, self.analytics.root)
        submitted = VideoSubmitted(
            video_id=scene.video_id, video_name="bench", video_url="http://example.org/a.mp4",
            source_kind="url", location="http://example.org/a.mp4", submitted_at=1.0,
        )  # fmt: skip
        requested = RunRequested(
            video_id=scene.video_id, run_id=scene.run_id, models=MODEL_KEYS, frame_step=1, max_height=720,
            jpeg_quality=90, infer_from="stored", requested_at=1.0,
        )  # fmt: skip
        await self.append(video_stream(scene.video_id), submitted, requested)
        return scene

    async def append(self, stream: str, *events: msgspec.Struct) -> None:
        await self.store.append(stream, [self.codec.encode(event) for event in events], expected_version=ANY)

    async def project_videos(self) -> None:
        """The read models know the videos: all results lie in the files."""
        after = await self.models.projection.checkpoint()
        if events := await self.store.read_all(after=after, prefixes=("video-",), limit=1_000_000):
            await self.models.projection.apply(events)


async def _make_video(world: _World) -> tuple[Scene, float]:
    """By the projection, from events; and its seconds."""
    scene = await world.begin(VIDEO_SEGMENTS * VIDEO_FRAMES / VIDEO_RATE)
    dice = random.Random(SEED)
    for segment in range(VIDEO_SEGMENTS):
        events = [
            event
            for model in MODEL_KEYS
            for event in _judged(scene, segment, model, VIDEO_FRAMES, VIDEO_RATE, dice)
        ]
        fields: dict[str, Any] = {
            "video_id": scene.video_id, "run_id": scene.run_id, "segment": segment, "frames": VIDEO_FRAMES,
            "dropped": 0, "last_frame": (segment + 1) * VIDEO_FRAMES,
        }  # fmt: skip
        end = SegmentClosed(**fields, attempt=1, end_of_source=False)
        await world.append(results_stream(scene.run_id, segment), *events, end)
        await world.append(video_stream(scene.video_id), SegmentCompleted(**fields))
    await world.project_videos()
    projection = AnalyticsProjection(world.analytics, world.store, world.codec)
    start = time.perf_counter()
    after = None
    while events_read := await world.store.read_all(after=after, prefixes=projection.prefixes, limit=16):
        await projection.apply(events_read)
        after = events_read[-1].commit_position
    return scene, time.perf_counter() - start


async def _make_week(world: _World) -> Scene:
    """One segment, moved along: what is measured is how many there are."""
    scene = await world.begin(WEEK_SEGMENTS * WEEK_FRAMES / WEEK_RATE)
    await world.project_videos()
    builder = TableBuilder(scene.video_id, scene.run_id, 0)
    dice = random.Random(SEED)
    for model in MODEL_KEYS:
        for event in _judged(scene, 0, model, WEEK_FRAMES, WEEK_RATE, dice):
            builder.add(model, event.frames)
    first = builder.table()

    def add_one(segment: int, files: AnalyticsStore) -> None:
        seconds = segment * WEEK_FRAMES / WEEK_RATE
        table = first.with_columns(
            pl.lit(segment, pl.UInt32).alias("segment"),
            pl.col("frame_number") + segment * WEEK_FRAMES,
            pl.col("timestamp", "exact_timestamp") + seconds,
        )
        about = {"video_id": scene.video_id, "run_id": scene.run_id}
        files.add(indexed(table, **about, segment=segment, commit_position=1), table)

    for segment in range(WEEK_SEGMENTS):
        await world.analytics.write(partial(add_one, segment))
    return scene


class _Gate:
    async def wait_for(self, commit_position: int, timeout: float) -> None:
        raise TimeoutError("nothing is written here")


def _no_picture(video_id: str, pack: str, offset: int, length: int) -> bytes:
    raise FrameGoneError(pack)


def _plain(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    return jpeg


async def _serve(folder: Path, link: Connection) -> None:
    models = await ReadModels.open(folder / "read.db", EventCodec(DOMAIN_EVENTS))
    world = _World(folder, models, await Analytics.open(folder / "analytics"))
    video, projected = await _make_video(world)
    week = await _make_week(world)
    options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
    streams = VideoStreams(world.store, world.codec)
    services = ApiServices(
        handlers=VideoHandlers(streams, world.store, _Gate(), SecretUrls(folder), options, time.time),
        read_models=models, store=world.store, decoder=world.codec, read_frame=_no_picture, annotate=_plain,
        uploads=folder, registry=CollectorRegistry(), analytics=world.analytics,
    )  # fmt: skip
    server = await ApiServer.start(create_app(services), stopping=services.stopping, port=0)
    link.send((server.port, video, week, projected))
    await asyncio.to_thread(link.recv)
    await server.stop()
    await world.analytics.close()
    await models.close()


def _server_process(folder: Path, link: Connection) -> None:
    uvloop.run(_serve(folder, link))


def _ask(port: int, path: str) -> tuple[float, int]:
    """Milliseconds to the end of the answer, and its bytes."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    head, size = b"", 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        start = time.perf_counter()
        connection.sendall(request)
        while count := connection.recv_into(buffer):
            head = head or bytes(buffer[:32])
            size += count
        whole = time.perf_counter() - start
    assert head.startswith(b"HTTP/1.1 200")
    return whole * 1000, size


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _bare_timeline(files: list[Path], bucket: float) -> None:
    """Counts and greatest numbers by bucket and class, as a notebook would ask for them."""
    lines = pl.scan_parquet(files).filter(pl.col("score") >= _thresholds())
    piece = (pl.col("exact_timestamp") / bucket).floor().cast(pl.Int64).alias("bucket")
    counts = lines.group_by(piece, "code").agg(pl.len(), pl.col("rank").max())
    rgb = pl.col("rgb")
    kind = (rgb // 65536 // 48 * 64 + rgb // 256 % 256 // 48 * 8 + rgb % 256 // 48).alias("kind")
    colors = pl.scan_parquet(files).filter(rgb.is_not_null()).group_by(piece, kind).agg(pl.col("share").sum())
    pl.collect_all([counts, colors], engine="streaming")


def _thresholds() -> float:
    return min(DEFAULT_THRESHOLDS["objects_detection"], DEFAULT_THRESHOLDS["emotions_detection"])


def _bare_export(files: list[Path], target: Path) -> None:
    lines = pl.scan_parquet(files).filter(pl.col("entry") > 0, pl.col("score") >= _thresholds())
    lines.select(list(EXPORT_SCHEMA)).sink_parquet(target, engine="streaming")


async def run() -> dict[str, float]:
    """Medians in milliseconds; `…_to_bare`: how many times the time of bare Polars."""
    return await asyncio.to_thread(_measure)


def _measure() -> dict[str, float]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_server_process, args=(Path(folder), theirs)
        )
        process.start()
        port, video, week, projected = ours.recv()
        figures = _figures(port, video, week, Path(folder))
        ours.send("stop")
        process.join(30)
    lines = VIDEO_SEGMENTS * VIDEO_FRAMES * (sum(PER_FRAME.values()) + len(PER_FRAME))
    return {"projected_lines_per_s": lines / projected, **figures}


def _figures(port: int, video: Scene, week: Scene, folder: Path) -> dict[str, float]:
    path, bare = f"/analysis/{video.video_id}", folder / "bare.parquet"
    timelines, bare_timelines, exports, bare_exports = (
        list[float](),
        list[float](),
        list[float](),
        list[float](),
    )
    weeks, bare_weeks, summaries = list[float](), list[float](), list[float]()
    size = 0
    for _ in range(REPEATS):  # by turns: what else the machine does touches all alike
        timelines.append(_ask(port, f"{path}/timeline")[0])
        bare_timelines.append(_milliseconds(lambda: _bare_timeline(video.files, 20.0)))
        taken, size = _ask(port, f"{path}/results?format=parquet")
        exports.append(taken)
        bare_exports.append(_milliseconds(lambda: _bare_export(video.files, bare)))
        weeks.append(_ask(port, f"/analysis/{week.video_id}/timeline")[0])
        bare_weeks.append(_milliseconds(lambda: _bare_timeline(week.files, 3600.0)))
        summaries.append(_ask(port, f"{path}/summary")[0])
    rows = pl.scan_parquet(bare).select(pl.len()).collect().item()
    assert rows >= 1_000_000, rows
    middle = statistics.median
    return {
        "timeline_ms": middle(timelines),
        "timeline_to_bare": middle(timelines) / middle(bare_timelines),
        "parquet_ms": middle(exports),
        "parquet_to_bare": middle(exports) / middle(bare_exports),
        "parquet_megabytes": size / 1e6,
        "summary_ms": middle(summaries),
        "week_timeline_ms": middle(weeks),
        "week_timeline_to_bare": middle(weeks) / middle(bare_weeks),
        "week_files": float(len(week.files)),
    }


if __name__ == "__main__":
    print(asyncio.run(run()))
