"""Events about runs and their segments → rows."""

from __future__ import annotations

from monolith.domain.events import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    SegmentClaimed,
    SegmentClosed,
    SegmentCompleted,
    SegmentFailed,
)
from monolith.readmodels.connections import end_with_run
from monolith.readmodels.projected_rows import Rows, as_json


def run_requested(rows: Rows, event: RunRequested, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is None:
        return
    probed = rows.one("SELECT probe IS NOT NULL FROM videos WHERE video_no = ?", (video_no,))
    rows.connection.execute(
        "INSERT OR IGNORE INTO runs(run_id, video_no, models, frame_step, max_height, jpeg_quality, infer_from,"
        " requested_at, status, commit_position) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (event.run_id, video_no, as_json(event.models), event.frame_step, event.max_height, event.jpeg_quality,
         event.infer_from, event.requested_at, "Processing" if probed else "Pending", position),
    )  # fmt: skip
    rows.forget_run(event.run_id)
    rows.connection.execute(
        "UPDATE videos SET first_run_no = (SELECT run_no FROM runs WHERE run_id = ?)"
        " WHERE video_no = ? AND first_run_no IS NULL",
        (event.run_id, video_no),
    )
    rows.show_status(video_no, position)


def run_completed(rows: Rows, event: RunCompleted, position: int) -> None:
    rows.connection.execute("UPDATE runs SET coverage = ? WHERE run_id = ?", (event.coverage, event.run_id))
    _end_run(rows, event.run_id, "Completed", None, event.completed_at, position)


def run_failed(rows: Rows, event: RunFailed, position: int) -> None:
    _end_run(rows, event.run_id, "Failed", event.error, event.failed_at, position)


def run_cancelled(rows: Rows, event: RunCancelled, position: int) -> None:
    reason = event.reason if event.reason.startswith("cancelled") else f"cancelled: {event.reason}"
    _end_run(rows, event.run_id, "Failed", reason, event.cancelled_at, position)


def _end_run(rows: Rows, run_id: str, status: str, error: str | None, at: float, position: int) -> None:
    rows.connection.execute(
        "UPDATE runs SET status = ?, error = ?, ended_at = ?, commit_position = ? WHERE run_id = ?",
        (status, error, at, position, run_id),
    )
    run = rows.run(run_id)
    if run is not None:
        end_with_run(rows.connection, run.video_no, at, error, position)
        rows.show_status(run.video_no, position)


def segment_claimed(rows: Rows, event: SegmentClaimed, position: int) -> None:
    _segment(rows, event, "claimed", position, attempt=event.attempt)


def segment_closed(rows: Rows, event: SegmentClosed, position: int) -> None:
    _segment(
        rows, event, "closed", position, attempt=event.attempt, frames=event.frames, dropped=event.dropped
    )


def segment_completed(rows: Rows, event: SegmentCompleted, position: int) -> None:
    _segment(rows, event, "closed", position, frames=event.frames, dropped=event.dropped)


def segment_failed(rows: Rows, event: SegmentFailed, position: int) -> None:
    _segment(rows, event, "failed", position, attempt=event.attempt, reason=event.reason)


def _segment(
    rows: Rows,
    event: SegmentClaimed | SegmentClosed | SegmentCompleted | SegmentFailed,
    state: str,
    position: int,
    *,
    attempt: int | None = None,
    frames: int | None = None,
    dropped: int | None = None,
    reason: str | None = None,
) -> None:
    run = rows.run(event.run_id)
    if run is not None and not rows.has_expired(event.video_id, event.segment):
        rows.sums.touch(run.video_no, event.segment, (), rows.recorded_at, position)
        rows.connection.execute(
            "INSERT INTO run_segments VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, attempt = coalesce(excluded.attempt, attempt),"
            " frames = excluded.frames, dropped = excluded.dropped, reason = excluded.reason,"
            " commit_position = excluded.commit_position",
            (run.run_no, event.segment, state, attempt, frames, dropped, reason, position),
        )
