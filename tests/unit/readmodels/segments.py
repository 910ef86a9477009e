"""Videos of several segments, with both things that are made of their events: read models and analytics files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.projection import Projection
from eventsourcing.versions import ANY
from monolith.domain.detection import Detection
from monolith.domain.events import (
    DOMAIN_EVENTS,
    AnalysedFrame,
    FramesAnalysed,
    SegmentClosed,
    SegmentCompleted,
    SegmentsExpired,
    VideoDeleted,
    results_stream,
    video_stream,
)
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import ExpiredRun, ExpiredSegment
from monolith.readmodels.analytics import Analytics, AnalyticsProjection
from monolith.readmodels.detections import DetectionReader
from monolith.readmodels.queries import ReadModels
from tests.unit.readmodels.story import FOUND, OBJECTS, RUN, VIDEO, Streamed

CODEC = EventCodec(DOMAIN_EVENTS)
RATE = 25
"""Frames a second."""


def found_in(
    numbers: Iterable[int],
    segment: int,
    model: str = OBJECTS,
    *,
    run_id: str = RUN,
    video_id: str = VIDEO,
    found: tuple[Detection, ...] | None = None,
) -> Streamed:
    """Each of the frames `numbers` holds `found` (default: what the story has for the model)."""
    frames = tuple(
        AnalysedFrame(
            frame_number=number,
            timestamp=number / RATE,
            detections=FOUND[model] if found is None else found,
            started_at=1_700_000_000.0 + number,
            seconds=0.01,
        )
        for number in numbers
    )
    return analysed_frames(frames, segment, model, run_id=run_id, video_id=video_id)


def analysed_frames(
    frames: tuple[AnalysedFrame, ...], segment: int, model: str, *, run_id: str = RUN, video_id: str = VIDEO
) -> Streamed:
    identity = ModelIdentity(
        key=model, name="m", version="1", digest="0", precision="f32", infer_from="stored"
    )
    event = FramesAnalysed(
        video_id=video_id, run_id=run_id, segment=segment, attempt=1, model=identity, frames=frames
    )
    return results_stream(run_id, segment), event


def closed(segment: int, *, run_id: str = RUN, video_id: str = VIDEO, frames: int = 4) -> list[Streamed]:
    """A run has closed and completed a segment."""
    fields: dict[str, Any] = {
        "video_id": video_id, "run_id": run_id, "segment": segment, "frames": frames, "dropped": 0,
        "last_frame": (segment + 1) * frames,
    }  # fmt: skip
    return [
        (results_stream(run_id, segment), SegmentClosed(**fields, attempt=1, end_of_source=False)),
        (video_stream(video_id), SegmentCompleted(**fields)),
    ]


def whole_segment(
    segment: int,
    models: Sequence[str] = (OBJECTS,),
    *,
    run_id: str = RUN,
    video_id: str = VIDEO,
    frames: int = 4,
) -> list[Streamed]:
    """Segment `segment` of `frames` frames: judged, closed, completed."""
    numbers = range(segment * frames + 1, (segment + 1) * frames + 1)
    judged = [found_in(numbers, segment, model, run_id=run_id, video_id=video_id) for model in models]
    return [*judged, *closed(segment, run_id=run_id, video_id=video_id, frames=frames)]


def expired(*segments: int, runs: Sequence[str] = (RUN,), video_id: str = VIDEO, frames: int = 4) -> Streamed:
    """Retention lets them go."""
    gone = tuple(
        ExpiredSegment(
            segment=segment, first_frame=segment * frames + 1, last_frame=(segment + 1) * frames, frames_stored=0,
            decode_nanoseconds=0, resize_nanoseconds=0, encode_nanoseconds=0, last_event_at=1.0,
            runs=tuple(
                ExpiredRun(
                    run_id=run, attempt=1, closed=True, frames=frames, dropped=0,
                    greatest_frame=(segment + 1) * frames, models=(),
                )
                for run in runs
            ),
        )
        for segment in segments
    )  # fmt: skip
    return video_stream(video_id), SegmentsExpired(
        video_id=video_id, segments=gone, older_than=2.0, expired_at=3.0
    )


def deleted(video_id: str = VIDEO) -> Streamed:
    return video_stream(video_id), VideoDeleted(video_id=video_id, deleted_at=9.0)


class World:
    """An event store, and what is made of it."""

    def __init__(self, folder: Path, models: ReadModels, analytics: Analytics) -> None:
        self.root = analytics.root
        self.store = MemoryEventStore()
        self.models = models
        self.analytics = analytics
        self.projection = AnalyticsProjection(analytics, self.store, CODEC)
        self.reader = DetectionReader(models, analytics)
        self.folder = folder

    async def happened(self, streamed: Iterable[Streamed]) -> None:
        """Store the events; nothing is projected."""
        for stream, event in streamed:
            await self.store.append(stream, [CODEC.encode(event)], expected_version=ANY)

    async def projected(self, *, models: bool = True, files: bool = True) -> None:
        """Bring the read models, and the analytics files, up to date."""
        if models:
            await project(self.store, self.models.projection)
            await self.models.clean()
        if files:
            await project(self.store, self.projection)

    def files(self) -> dict[str, bytes]:
        """The analytics files: name below the root → content."""
        return files_below(self.root)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet*"))}


async def project(store: MemoryEventStore, projection: Projection, batch: int = 16) -> None:
    """All that is stored and was not projected."""
    after = await projection.checkpoint()
    while events := await store.read_all(after=after, prefixes=projection.prefixes, limit=batch):
        await projection.apply(events)
        after = events[-1].commit_position


@asynccontextmanager
async def world(folder: Path, *streamed: Iterable[Streamed]) -> AsyncIterator[World]:
    """With all of `streamed` stored and projected."""
    async with AsyncExitStack() as stack:
        models = await ReadModels.open(folder / "read.db", CODEC)
        stack.push_async_callback(models.close)
        analytics = await Analytics.open(folder / "analytics")
        stack.push_async_callback(analytics.close)
        made = World(folder, models, analytics)
        stack.push_async_callback(made.store.close)
        for events in streamed:
            await made.happened(events)
        await made.projected()
        yield made


def plain(value: Any) -> Any:
    """A struct as dictionaries and lists."""
    return msgspec.json.decode(msgspec.json.encode(value))
