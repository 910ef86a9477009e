"""Events about a video, its source and its segments → rows."""

from __future__ import annotations

from typing import Any

import msgspec

from monolith.domain.events import (
    SegmentsExpired,
    SegmentsPlanned,
    SegmentsPurged,
    SourceEnded,
    StopRequested,
    StreamConnected,
    StreamDisconnected,
    VideoDeleted,
    VideoProbed,
    VideoSubmitted,
)
from monolith.readmodels.cleaning import doom
from monolith.readmodels.connections import add_connection, end_connection
from monolith.readmodels.expiries import expire, forget_parked
from monolith.readmodels.projected_rows import Rows, as_json
from monolith.readmodels.schema import MAX_FRAME_NUMBER, MODEL_MASK, frame_id, result_id


def video_submitted(rows: Rows, event: VideoSubmitted, position: int) -> None:
    rows.connection.execute(
        "INSERT OR IGNORE INTO videos(video_id, video_name, video_url, source_kind, submitted_at,"
        " submitted_position, commit_position) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        (
            event.video_id,
            event.video_name,
            event.video_url,
            event.source_kind,
            event.submitted_at,
            position,
        ),
    )
    rows.forget_video(event.video_id)


def video_probed(rows: Rows, event: VideoProbed, position: int) -> None:
    video_no = rows.video(event.video_id)
    rows.connection.execute(
        "UPDATE videos SET probe = ?, ingest_seconds = ?, frames_total = ?, commit_position = ? WHERE video_no = ?",
        (as_json(_without_segments(event)), event.ingest_seconds, event.source.frames, position, video_no),
    )
    rows.connection.execute(
        "UPDATE runs SET status = 'Processing' WHERE video_no = ? AND status = 'Pending'", (video_no,)
    )
    rows.show_status(video_no, position)


def segments_planned(rows: Rows, event: SegmentsPlanned, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is not None:
        rows.connection.executemany(
            "INSERT OR REPLACE INTO segments VALUES(?, ?, ?, ?, ?, ?, NULL, ?)",
            [
                (
                    video_no,
                    plan.segment,
                    plan.first_frame,
                    plan.last_frame,
                    plan.start,
                    plan.end,
                    position,
                )
                for plan in event.segments
            ],
        )


def source_ended(rows: Rows, event: SourceEnded, position: int) -> None:
    rows.connection.execute(
        "UPDATE videos SET frames_total = ?, commit_position = ? WHERE video_id = ?",
        (event.frames, position, event.video_id),
    )


def stop_requested(rows: Rows, event: StopRequested, position: int) -> None:
    rows.connection.execute(
        "UPDATE videos SET stopping = 1, commit_position = ? WHERE video_id = ?",
        (position, event.video_id),
    )


def stream_connected(rows: Rows, event: StreamConnected, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is not None:
        add_connection(rows.connection, video_no, event, position)


def stream_disconnected(rows: Rows, event: StreamDisconnected, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is not None:
        end_connection(rows.connection, video_no, event, position)


def video_deleted(rows: Rows, event: VideoDeleted, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is None:
        return
    _forget_parked(rows, f"frames-{event.video_id}-*")
    for run_id, run_no in rows.all_runs(video_no).items():
        _delete_run(rows, run_no)
        _forget_parked(rows, f"results-{run_id}-*")
    doom(rows.connection, "frames", frame_id(video_no, 0), frame_id(video_no, MAX_FRAME_NUMBER))
    rows.doomed = True
    for table in ("segment_sums", "segments", "connections", "videos"):
        rows.connection.execute(f"DELETE FROM {table} WHERE video_no = ?", (video_no,))  # noqa: S608
    rows.forget_all()


def _delete_run(rows: Rows, run_no: int) -> None:
    first, last = result_id(run_no, 0, 0), result_id(run_no, MAX_FRAME_NUMBER, MODEL_MASK)
    doom(rows.connection, "results", first, last)
    doom(rows.connection, "dropped", first, last)
    for table in ("run_models", "run_segments", "run_sums", "model_sums", "runs"):
        rows.connection.execute(f"DELETE FROM {table} WHERE run_no = ?", (run_no,))  # noqa: S608


def _forget_parked(rows: Rows, pattern: str) -> None:
    rows.connection.execute("DELETE FROM parked WHERE stream_name GLOB ?", (pattern,))


def segments_expired(rows: Rows, event: SegmentsExpired, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is not None:
        expire(rows.connection, video_no, rows.all_runs(video_no), event, position)
        rows.doomed = True
        rows.forget_expired()


def segments_purged(rows: Rows, event: SegmentsPurged, position: int) -> None:
    """What came late to streams that had expired is gone, too."""
    video_no = rows.video(event.video_id)
    if video_no is not None:
        forget_parked(rows.connection, event.video_id, rows.all_runs(video_no), event.segments)


def _without_segments(event: VideoProbed) -> dict[str, Any]:
    """What users may know of a probe: no path of this machine, no long list."""
    source = msgspec.to_builtins(event.source)
    del source["segments"], source["pts_digest"]
    return {**source, "size_bytes": event.size_bytes, "transport": event.transport}
