"""The body of answers about retention."""

from __future__ import annotations

import msgspec

from monolith.api.answers import iso_time
from monolith.application.retention_report import Phase, RetentionReport, State, Trigger, VideoShare
from monolith.application.retention_schedule import RetentionSchedule


class RetentionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A retention, or (`dry_run`) what one would do. Times are ISO 8601, UTC.

    Segments went in which nothing happened since `older_than`: `segments` of them, of `videos` videos, with `frames`
    stored frames. `segments_purged` of them are off the disk by now, which freed `bytes_freed` (analytics files
    are counted at the end). `segments_unreadable` stay because their events cannot be read. `by_video`: the first
    hundred videos. `progress`: 0–1.
    """

    state: State
    phase: Phase
    trigger: Trigger
    dry_run: bool
    days: float
    keep: tuple[str, ...]
    older_than: str
    started: str
    ended: str | None
    progress: float
    videos: int
    segments: int
    frames: int
    segments_purged: int
    bytes_freed: int
    segments_unreadable: int
    by_video: list[VideoShare]
    error: str | None


class RetentionScheduleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings want every day. `at`: the server's local time; `next`: ISO 8601, UTC."""

    days: float
    at: str
    keep: tuple[str, ...]
    next: str


class RetentionStateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`last`: the retention that runs, or the last one, null before the first; `schedule`: null where there is none."""

    running: bool
    last: RetentionAnswer | None
    schedule: RetentionScheduleAnswer | None


def retention_answer(report: RetentionReport) -> RetentionAnswer:
    return RetentionAnswer(
        state=report.state,
        phase=report.phase,
        trigger=report.trigger,
        dry_run=report.dry_run,
        days=report.days,
        keep=report.keep,
        older_than=iso_time(report.older_than),
        started=iso_time(report.started_at),
        ended=None if report.ended_at is None else iso_time(report.ended_at),
        progress=round(report.progress, 4),
        videos=report.videos,
        segments=report.segments,
        frames=report.frames,
        segments_purged=report.purged,
        bytes_freed=report.bytes_freed,
        segments_unreadable=report.unreadable,
        by_video=report.by_video,
        error=report.error,
    )


def schedule_answer(schedule: RetentionSchedule) -> RetentionScheduleAnswer:
    return RetentionScheduleAnswer(
        days=schedule.plan.request.days,
        at=f"{schedule.plan.at:%H:%M}",
        keep=tuple(sorted(schedule.plan.request.keep)),
        next=iso_time(schedule.next_at),
    )
