"""Domain values for tests, with sensible defaults."""

from __future__ import annotations

import msgspec

from monolith.domain.commands import CompleteSegment, RecordProbe, SubmitVideo
from monolith.domain.decisions import decide
from monolith.domain.events import Transport, VideoEvent
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SegmentPlan, SourceInfo
from monolith.domain.video import Video, evolve

VIDEO = "0199aaaa-0000-7000-8000-000000000001"
RUN = "0199aaaa-0000-7000-8000-000000000002"


def submit(frame_step: int = 1, models: tuple[str, ...] = ("objects_detection",)) -> SubmitVideo:
    return SubmitVideo(
        at=1.0,
        video_id=VIDEO,
        run_id=RUN,
        video_name="clip",
        video_url="file:///clip.mp4",
        source_kind="file",
        location="/clip.mp4",
        models=models,
        frame_step=frame_step,
        max_height=720,
        jpeg_quality=90,
        infer_from="stored",
    )


def source(frames: int | None = 100, segments: int = 2, **changes: object) -> SourceInfo:
    """An indexed source of `frames` pictures in equal segments; frames=None: a sequential one."""
    size = (frames or 100) // segments
    plans = tuple(
        SegmentPlan(
            segment=i,
            first_frame=i * size + 1,
            last_frame=None if frames is None and i == segments - 1 else (i + 1) * size,
        )
        for i in range(segments)
    )
    values: dict[str, object] = {
        "container": "mp4", "codec": "h264", "width": 640, "height": 272, "rotation": 0, "duration": 10.0,
        "frame_rate": 25.0, "frames": frames, "indexed": frames is not None,
        "pts_digest": "d" if frames is not None else None, "truncated": None, "segments": plans,
    }  # fmt: skip
    return SourceInfo(**{**values, **changes})  # type: ignore[arg-type]


def probe(info: SourceInfo, path: str = "/clip.mp4") -> RecordProbe:
    return RecordProbe(at=2.0, path=path, spooled=False, size_bytes=1000, source=info, ingest_seconds=0.1)


def followed(*, live: bool, transport: Transport = "hls") -> RecordProbe:
    """The probe of a source that is followed."""
    info = source(frames=None, segments=1, live=live, duration=None)
    info = msgspec.structs.replace(info, segments=())
    return RecordProbe(
        at=2.0, path="", spooled=False, size_bytes=0, source=info, ingest_seconds=0.1, transport=transport
    )


def complete(
    segment: int,
    frames: int = 50,
    dropped: int = 0,
    last_frame: int | None = None,
    end: bool = False,
) -> CompleteSegment:
    return CompleteSegment(
        at=3.0,
        run_id=RUN,
        segment=segment,
        frames=frames,
        dropped=dropped,
        last_frame=last_frame if last_frame is not None else (segment + 1) * 50,
        end_of_source=end,
    )


def identity(key: str = "objects_detection") -> ModelIdentity:
    return ModelIdentity(
        key=key, name="test", version="1", digest="0" * 64, precision="f32", infer_from="stored"
    )


def after(*commands: object) -> Video:
    """The video after it was asked all of `commands` in turn."""
    video = Video()
    for command in commands:
        for event in decide(video, command):  # type: ignore[arg-type]
            video = evolve(video, event)
    return video


def types(events: object) -> list[str]:
    return [type(event).__name__ for event in events]  # type: ignore[attr-defined]


def last_of(events: object) -> VideoEvent:
    return list(events)[-1]  # type: ignore[call-overload,no-any-return]
