"""A video's events, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from eventsourcing.events import RecordedEvent
from monolith.domain.detection import ColorShare, Detection, FaceDetection, ObjectDetection
from monolith.domain.events import (
    AnalysedFrame,
    DomainEvent,
    FramesAnalysed,
    FramesStored,
    RunCompleted,
    RunRequested,
    SegmentClosed,
    SegmentsPlanned,
    VideoProbed,
    VideoSubmitted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SegmentPlan, SourceInfo, StoredFrame

VIDEO = "0199aaaa-0000-7000-8000-000000000001"
RUN = "0199aaaa-0000-7000-8000-000000000002"
SECOND_RUN = "0199aaaa-0000-7000-8000-000000000003"
OBJECTS, FACES, COLORS = "objects_detection", "emotions_detection", "color_detection"
JPEG_LENGTH = 10

Streamed = tuple[str, DomainEvent]

CAR = ObjectDetection(class_id=2, class_name="car", confidence=0.87311, xyxy=(10.0, 20.0, 110.5, 70.25))
UNSURE = ObjectDetection(class_id=0, class_name="person", confidence=0.2, xyxy=(1.0, 2.0, 3.0, 4.0))
FACE = FaceDetection(
    face_id=1, confidence=0.912, xyxy=(5.0, 6.0, 25.0, 46.0), emotion="happy", emotion_probability=0.75,
    emotions=(0.0, 0.0, 0.0, 0.75, 0.0, 0.25, 0.0),
)  # fmt: skip
PALETTE = (
    ColorShare(color="#102030", share=0.5),
    ColorShare(color="#405060", share=0.3),
    ColorShare(color="#708090", share=0.2),
)
FOUND: dict[str, tuple[Detection, ...]] = {OBJECTS: (CAR, UNSURE), FACES: (FACE,), COLORS: PALETTE}


def submitted(
    models: Iterable[str] = (OBJECTS,), step: int = 1, video_id: str = VIDEO, run_id: str = RUN
) -> list[Streamed]:
    return [
        (
            video_stream(video_id),
            VideoSubmitted(
                video_id=video_id, video_name="Street", video_url="http://example.org/street.mp4",
                source_kind="url", location="http://me:secret@example.org/street.mp4", submitted_at=1_700_000_000.25,
            ),
        ),
        requested(models, step, video_id, run_id),
    ]  # fmt: skip


def requested(models: Iterable[str], step: int = 1, video_id: str = VIDEO, run_id: str = RUN) -> Streamed:
    return (
        video_stream(video_id),
        RunRequested(
            video_id=video_id, run_id=run_id, models=tuple(models), frame_step=step, max_height=720,
            jpeg_quality=90, infer_from="stored", requested_at=1_700_000_000.5,
        ),
    )  # fmt: skip


def probed(frames: int | None = 100, duration: float | None = 4.0, video_id: str = VIDEO) -> list[Streamed]:
    plan = SegmentPlan(segment=0, first_frame=1, last_frame=frames, start=0.0, end=duration)
    source = SourceInfo(
        container="mp4", codec="h264", width=640, height=272, rotation=0, duration=duration, frame_rate=25.0,
        frames=frames, indexed=frames is not None, pts_digest=None, truncated=None, segments=(plan,),
    )  # fmt: skip
    return [
        (
            video_stream(video_id),
            VideoProbed(
                video_id=video_id, path="/secret/place.mp4", spooled=True, size_bytes=1234, source=source,
                ingest_seconds=1.5,
            ),
        ),
        (
            video_stream(video_id),
            SegmentsPlanned(video_id=video_id, segments=(plan,), pts_digest=None, final=frames is not None),
        ),
    ]  # fmt: skip


def stored(numbers: Iterable[int], video_id: str = VIDEO, pack: str = "000000-1.mjpeg") -> Streamed:
    return (
        frames_stream(video_id, 0),
        FramesStored(
            video_id=video_id, segment=0, attempt=1, pack=pack,
            frames=tuple(
                StoredFrame(
                    frame_number=n, timestamp=n / 25, offset=n * JPEG_LENGTH, length=JPEG_LENGTH,
                    width=640, height=272,
                )
                for n in numbers
            ),
            decode_seconds=0.5, resize_seconds=0.25, encode_seconds=0.125,
        ),
    )  # fmt: skip


def analysed(
    numbers: Iterable[int], model: str = OBJECTS, run_id: str = RUN, video_id: str = VIDEO,
    found: tuple[Detection, ...] | None = None,
) -> Streamed:  # fmt: skip
    return (
        results_stream(run_id, 0),
        FramesAnalysed(
            video_id=video_id, run_id=run_id, segment=0, attempt=1,
            model=ModelIdentity(
                key=model, name="m", version="1", digest="0", precision="f32", infer_from="stored"
            ),
            frames=tuple(
                AnalysedFrame(
                    frame_number=n, timestamp=n / 25, detections=FOUND[model] if found is None else found,
                    started_at=1_700_000_001.5, seconds=0.01,
                )
                for n in numbers
            ),
        ),
    )  # fmt: skip


def completed(frames: int, run_id: str = RUN, dropped: int = 0, video_id: str = VIDEO) -> list[Streamed]:
    sampled = frames + dropped
    return [
        (
            results_stream(run_id, 0),
            SegmentClosed(
                video_id=video_id, run_id=run_id, segment=0, attempt=1, frames=frames, dropped=dropped,
                last_frame=sampled, end_of_source=True,
            ),
        ),
        (
            video_stream(video_id),
            RunCompleted(
                video_id=video_id, run_id=run_id, frames=frames, dropped=dropped, greatest_frame=sampled,
                coverage=frames / sampled, completed_at=1_700_000_010.25,
            ),
        ),
    ]  # fmt: skip


def whole_video(models: Iterable[str] = (OBJECTS,), frames: int = 4) -> list[Streamed]:
    """A completed video of `frames` frames, each with one car and one unsure person, a face, a palette."""
    numbers = range(1, frames + 1)
    keys = tuple(models)
    results = [analysed(numbers, key) for key in keys]
    return [*submitted(keys), *probed(frames, frames / 25), stored(numbers), *results, *completed(frames)]


def recorded(streamed: Iterable[Streamed], first: int = 1) -> list[RecordedEvent]:
    """As a store gives them, commit positions from `first` on."""
    return list(_recorded(streamed, first))


def _recorded(streamed: Iterable[Streamed], first: int) -> Iterator[RecordedEvent]:
    for position, (stream, event) in enumerate(streamed, first):
        yield RecordedEvent(
            stream_name=stream, stream_position=position, commit_position=position,
            event_type=type(event).__name__, data=msgspec.json.encode(event), metadata_json=b"",
            id_bytes=position.to_bytes(16, "big"), recorded_at=1_700_000_000.0,
        )  # fmt: skip
