"""The bodies of answers about a whole video, or about pieces of its time."""

from __future__ import annotations

import msgspec

from monolith.api.answers import iso_time
from monolith.domain.models import INFERENCE_MODEL_NAMES
from monolith.readmodels.detections import DetectionTables
from monolith.readmodels.palette import PaletteColor
from monolith.readmodels.summary import Findings, FoundClass, FoundEmotion, ModelWork, Palette
from monolith.readmodels.timeline import Bucket, Timeline
from monolith.readmodels.videos import RunView, Status


class AnsweringRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and which of its models answer."""

    run_id: str
    models: tuple[str, ...]


class TimelineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets of `bucket` seconds of video, without a gap; the first and the last may be covered in part. `runs`: whose
    results are counted."""

    video_id: str
    bucket: float
    runs: tuple[AnsweringRun, ...]
    buckets: tuple[Bucket, ...]


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose results are summed up. `ts`, `ended`: ISO 8601, UTC; `frames_per_second`: analysed, from the request
    to the end (null before it); `coverage`: analysed / sampled, 0–1. Frames that have expired since are counted."""

    run_id: str
    models: tuple[str, ...]
    status: Status
    frame_step: int
    ts: str
    ended: str | None
    frames_sampled: int | None
    frames_analyzed: int
    frames_dropped: int
    coverage: float | None
    frames_per_second: float | None


class SummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a video. `first_time`, `last_time`: seconds of video between which there are results; classes,
    emotions and colours are of frames that have not expired."""

    video_id: str
    video_name: str
    status: Status
    first_time: float | None
    last_time: float | None
    runs: tuple[RunSummary, ...]
    models: tuple[ModelWork, ...]
    objects: tuple[FoundClass, ...]
    faces: FoundClass | None
    emotions: tuple[FoundEmotion, ...]
    palette: Palette | None
    expired_segments: int
    frames_expired: int


ANALYTICS_TYPES = (
    TimelineAnswer, AnsweringRun, Bucket, PaletteColor, SummaryAnswer, RunSummary, ModelWork, FoundClass, FoundEmotion,
    Palette,
)  # fmt: skip


def timeline_answer(tables: DetectionTables, found: Timeline) -> TimelineAnswer:
    return TimelineAnswer(
        video_id=tables.video.video_id,
        bucket=found.bucket,
        runs=tuple(AnsweringRun(run_id=run.run_id, models=_names(run.model_keys)) for run in tables.runs),
        buckets=found.buckets,
    )


def summary_answer(tables: DetectionTables, found: Findings, work: list[ModelWork]) -> SummaryAnswer:
    video = tables.video
    runs = {run.run_id: run for run in video.runs}
    return SummaryAnswer(
        video_id=video.video_id,
        video_name=video.video_name,
        status=video.status,
        first_time=found.first_time,
        last_time=found.last_time,
        runs=tuple(_run(runs[table.run_id], table.model_keys) for table in tables.runs),
        models=tuple(work),
        objects=found.objects,
        faces=found.faces,
        emotions=found.emotions,
        palette=found.palette,
        expired_segments=video.expired_segments,
        frames_expired=video.frames_expired,
    )


def _run(run: RunView, keys: tuple[str, ...]) -> RunSummary:
    return RunSummary(
        run_id=run.run_id,
        models=_names(keys),
        status=run.status,
        frame_step=run.frame_step,
        ts=iso_time(run.requested_at),
        ended=None if run.ended_at is None else iso_time(run.ended_at),
        frames_sampled=run.frames_sampled,
        frames_analyzed=run.frames_analyzed,
        frames_dropped=run.frames_dropped,
        coverage=run.coverage,
        frames_per_second=_speed(run),
    )


def _speed(run: RunView) -> float | None:
    if run.ended_at is None or run.ended_at <= run.requested_at:
        return None
    return round(run.frames_analyzed / (run.ended_at - run.requested_at), 3)


def _names(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(INFERENCE_MODEL_NAMES[key] for key in keys)
