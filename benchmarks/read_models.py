"""How fast results are projected: `python -m benchmarks.read_models [frames]`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.events import RecordedEvent
from monolith.domain.detection import Detection, ObjectDetection
from monolith.domain.events import (
    DOMAIN_EVENTS,
    AnalysedFrame,
    DomainEvent,
    FramesAnalysed,
    FramesStored,
    RunRequested,
    VideoSubmitted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.ids import new_id
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import StoredFrame
from monolith.readmodels.queries import ReadModels

BATCH: Final = 32
EVENTS_PER_APPLY: Final = 500
MODEL: Final = ModelIdentity(
    key="objects_detection",
    name="NanoDet",
    version="1",
    digest="0" * 64,
    precision="f32",
    infer_from="stored",
)


def video_events(video_id: str, run_id: str, frames: int) -> Iterator[tuple[str, DomainEvent]]:
    """A video whose `frames` frames were all stored and searched for objects: 1–3 each."""
    yield (
        video_stream(video_id),
        VideoSubmitted(
            video_id=video_id, video_name="bench", video_url="http://example.org/a.mp4",
            source_kind="url", location="http://example.org/a.mp4", submitted_at=1.0,
        ),
    )  # fmt: skip
    yield (
        video_stream(video_id),
        RunRequested(
            video_id=video_id, run_id=run_id, models=("objects_detection",), frame_step=1,
            max_height=720, jpeg_quality=90, infer_from="stored", requested_at=1.0,
        ),
    )  # fmt: skip
    for first in range(1, frames + 1, BATCH):
        numbers = range(first, min(first + BATCH, frames + 1))
        segment = first // 1800
        yield frames_stream(video_id, segment), _stored(video_id, segment, numbers)
        yield results_stream(run_id, segment), _analysed(video_id, run_id, segment, numbers)


def _stored(video_id: str, segment: int, numbers: range) -> FramesStored:
    return FramesStored(
        video_id=video_id,
        segment=segment,
        attempt=1,
        pack=f"{segment:06d}-1.mjpeg",
        frames=tuple(
            StoredFrame(
                frame_number=n, timestamp=n / 30, offset=n * 60_000, length=60_000, width=1280, height=720
            )
            for n in numbers
        ),
        decode_seconds=0.1,
        resize_seconds=0.02,
        encode_seconds=0.1,
    )


def _analysed(video_id: str, run_id: str, segment: int, numbers: range) -> FramesAnalysed:
    return FramesAnalysed(
        video_id=video_id,
        run_id=run_id,
        segment=segment,
        attempt=1,
        model=MODEL,
        frames=tuple(
            AnalysedFrame(
                frame_number=n,
                timestamp=n / 30,
                detections=tuple(_detection(n, k) for k in range(1 + n % 3)),
                started_at=1_700_000_000.123456 + n / 100,
                seconds=0.0101234,
            )
            for n in numbers
        ),
    )


def _detection(number: int, k: int) -> Detection:
    left = (number * 7 + k * 13) % 1000 + 0.3711
    return ObjectDetection(
        class_id=2, class_name="car", confidence=0.4512 + k / 10, xyxy=(left, 40.25, left + 80.123, 99.5678)
    )


def recorded(pairs: Iterator[tuple[str, DomainEvent]]) -> list[RecordedEvent]:
    """As a store would give them."""
    return [
        RecordedEvent(
            stream_name=stream, stream_position=position, commit_position=position,
            event_type=type(event).__name__, data=msgspec.json.encode(event), metadata_json=b"",
            id_bytes=position.to_bytes(16, "big"), recorded_at=1.0,
        )
        for position, (stream, event) in enumerate(pairs, 1)
    ]  # fmt: skip


async def project(models: ReadModels, events: list[RecordedEvent]) -> float:
    """Seconds for projecting `events`."""
    start = time.perf_counter()
    for first in range(0, len(events), EVENTS_PER_APPLY):
        await models.projection.apply(events[first : first + EVENTS_PER_APPLY])
    return time.perf_counter() - start


async def run(frames: int = 100_000) -> dict[str, float]:
    """Frames whose storing and results (one model, 1 to 3 detections) are projected, per second."""
    events = recorded(video_events(new_id(), new_id(), frames))
    with tempfile.TemporaryDirectory() as folder:
        models = await ReadModels.open(Path(folder) / "read.db", EventCodec(DOMAIN_EVENTS))
        seconds = await project(models, events)
        await models.close()
    return {"frame_results_per_s": frames / seconds}


if __name__ == "__main__":
    print(asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
