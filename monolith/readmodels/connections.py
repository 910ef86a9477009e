"""Connections of live sources: when each gave pictures, and which frames. The wall-clock time of a frame follows."""

from __future__ import annotations

from typing import Any, Final

import apsw
import msgspec

from monolith.domain.events import StreamConnected, StreamDisconnected

_COLUMNS: Final = "connection, segment, first_frame, timestamp, wall_time, ended_at, reason, last_frame"


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """Frames from `first_frame` to `last_frame` (None: it goes on, gave none, or ended with its run) came by this
    connection, from `wall_time` to `ended_at` (Unix seconds; None: it goes on). The first one is at `timestamp` seconds
    of the video: a frame at t came at wall_time + t - timestamp. `reason`: why it ended."""

    connection: int
    segment: int
    first_frame: int
    last_frame: int | None
    timestamp: float
    wall_time: float
    ended_at: float | None
    reason: str | None


class ConnectionCounts(msgspec.Struct, frozen=True):
    """Connections of a video so far, and whether the last one goes on."""

    made: int = 0
    connected: bool = False


def add_connection(connection: apsw.Connection, video_no: int, event: StreamConnected, position: int) -> None:
    """Its segment begins where it does: when it was planned, nobody knew."""
    connection.execute(
        f"INSERT OR IGNORE INTO connections(video_no, {_COLUMNS}, commit_position)"
        " VALUES(?, ?, ?, ?, ?, ?, NULL, NULL, NULL, ?)",
        (video_no, event.connection, event.segment, event.first_frame, event.timestamp, event.wall_time, position),
    )  # fmt: skip
    connection.execute(
        "UPDATE segments SET start_seconds = ?, commit_position = ? WHERE video_no = ? AND segment = ?",
        (event.timestamp, position, video_no, event.segment),
    )


def end_connection(
    connection: apsw.Connection, video_no: int, event: StreamDisconnected, position: int
) -> None:
    connection.execute(
        "UPDATE connections SET ended_at = ?, reason = ?, last_frame = ?, commit_position = ?"
        " WHERE video_no = ? AND connection = ?",
        (event.disconnected_at, event.reason, event.last_frame, position, video_no, event.connection),
    )


def end_with_run(
    connection: apsw.Connection, video_no: int, at: float, reason: str | None, position: int
) -> None:
    """A connection that is open when the last run of its video ends (cancelled, failed) ends with it: nobody is there
    any more to say that it gave no more."""
    connection.execute(
        "UPDATE connections SET ended_at = ?, reason = ?, commit_position = ?"
        " WHERE video_no = ? AND ended_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE video_no = ? AND ended_at IS NULL)",
        (at, reason, position, video_no, video_no),
    )


def list_connections(
    connection: apsw.Connection, video_no: int, after: int, limit: int
) -> list[ConnectionView]:
    """At most `limit` with a number above `after`, in order."""
    rows: list[Any] = connection.execute(
        f"SELECT {_COLUMNS} FROM connections WHERE video_no = ? AND connection > ?"  # noqa: S608
        " ORDER BY connection LIMIT ?",
        (video_no, after, limit),
    ).fetchall()
    names = _COLUMNS.split(", ")
    return [ConnectionView(**dict(zip(names, row, strict=True))) for row in rows]


def count_connections(connection: apsw.Connection, video_numbers: str) -> dict[int, ConnectionCounts]:
    """By `video_no`. `video_numbers`: a JSON list."""
    rows = connection.execute(
        "SELECT video_no, count(*), max(ended_at IS NULL) FROM connections"
        " WHERE video_no IN (SELECT value FROM json_each(?)) GROUP BY video_no",
        (video_numbers,),
    )
    return {video_no: ConnectionCounts(made, bool(open_one)) for video_no, made, open_one in rows}
