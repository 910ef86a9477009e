"""Sums by segment, and the totals made of them.

Rules:
- What an event of a segment adds goes to the segment's own rows and to the totals.
- SegmentsExpired replaces the rows of its segments, however much of them was projected, and the totals are added up
  anew: so they are the same whether the segment's events were all seen, or in part, or (purged since) not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import apsw
import msgspec

from monolith.domain.events import FramesAnalysed, FramesStored
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import ExpiredRun, ExpiredSegment, nanoseconds
from monolith.readmodels.schema import MODEL_NUMBERS

_TOUCH: Final = (
    "INSERT INTO segment_sums VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET"
    " first_frame = min(coalesce(first_frame, ?3), coalesce(?3, first_frame)),"
    " last_frame = max(coalesce(last_frame, ?4), coalesce(?4, last_frame)),"
    " frames_stored = frames_stored + ?5, decode_nanoseconds = decode_nanoseconds + ?6,"
    " resize_nanoseconds = resize_nanoseconds + ?7, encode_nanoseconds = encode_nanoseconds + ?8,"
    " newest_at = max(newest_at, ?9), commit_position = ?10"
)
_ADD_TO_VIDEO: Final = (
    "UPDATE videos SET frames_stored = frames_stored + ?2, decode_nanoseconds = decode_nanoseconds + ?3,"
    " resize_nanoseconds = resize_nanoseconds + ?4, encode_nanoseconds = encode_nanoseconds + ?5 WHERE video_no = ?1"
)
_ADD_TO_RUN_SUMS: Final = (
    "INSERT INTO run_sums VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET frames = frames + excluded.frames,"
    " dropped = dropped + excluded.dropped, greatest_frame = max(greatest_frame, excluded.greatest_frame),"
    " commit_position = excluded.commit_position"
)
_ADD_TO_RUN: Final = (
    "UPDATE runs SET frames_analyzed = frames_analyzed + ?2, frames_dropped = frames_dropped + ?3,"
    " greatest_frame = max(greatest_frame, ?4), commit_position = ?5 WHERE run_no = ?1"
)
_ON_MODEL: Final = (
    " ON CONFLICT DO UPDATE SET identity = excluded.identity, frames = frames + excluded.frames,"
    " nanoseconds = nanoseconds + excluded.nanoseconds, commit_position = excluded.commit_position"
)
_ADD_TO_MODEL_SUMS: Final = "INSERT INTO model_sums VALUES(?, ?, ?, ?, ?, ?, ?)" + _ON_MODEL
_ADD_TO_MODEL: Final = "INSERT INTO run_models VALUES(?, ?, ?, ?, ?, ?)" + _ON_MODEL

_TOTAL_VIDEO: Final = (
    "UPDATE videos SET commit_position = ?2,"
    " (frames_stored, decode_nanoseconds, resize_nanoseconds, encode_nanoseconds) ="
    " (SELECT coalesce(sum(frames_stored), 0), coalesce(sum(decode_nanoseconds), 0),"
    " coalesce(sum(resize_nanoseconds), 0), coalesce(sum(encode_nanoseconds), 0)"
    " FROM segment_sums WHERE video_no = ?1) WHERE video_no = ?1"
)
_TOTAL_EXPIRED: Final = (
    "UPDATE videos SET (expired_segments, frames_expired) = (SELECT count(*), coalesce(sum(frames_stored), 0)"
    " FROM segments LEFT JOIN segment_sums USING (video_no, segment) WHERE video_no = ?1 AND expired_at IS NOT NULL)"
    " WHERE video_no = ?1"
)
_TOTAL_RUN: Final = (
    "UPDATE runs SET commit_position = ?2, (frames_analyzed, frames_dropped, greatest_frame) ="
    " (SELECT coalesce(sum(frames), 0), coalesce(sum(dropped), 0), coalesce(max(greatest_frame), 0)"
    " FROM run_sums WHERE run_no = ?1) WHERE run_no = ?1"
)
_TOTAL_MODELS: Final = (
    # SQLite takes the identity from the row with the greatest segment.
    "INSERT INTO run_models SELECT run_no, model_no, identity, frames, nanoseconds, ?2 FROM"
    " (SELECT run_no, model_no, identity, sum(frames) AS frames, sum(nanoseconds) AS nanoseconds, max(segment)"
    " FROM model_sums WHERE run_no = ?1 GROUP BY model_no)"
)


class Sums:
    """Keeps the sums within a transaction on `connection`. `at`: Unix seconds when the event was recorded."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def touch(self, video_no: int, segment: int, frames: Iterable[int], at: float, position: int) -> None:
        """Something happened in the segment, to `frames` (numbers)."""
        numbers = list(frames)
        first, last = (min(numbers), max(numbers)) if numbers else (None, None)
        self._connection.execute(_TOUCH, (video_no, segment, first, last, 0, 0, 0, 0, at, position))

    def stored(self, video_no: int, event: FramesStored, new: int, at: float, position: int) -> None:
        """`new`: how many of the frames were not stored before."""
        numbers = [frame.frame_number for frame in event.frames]
        first, last = (min(numbers), max(numbers)) if numbers else (None, None)
        times = tuple(map(nanoseconds, (event.decode_seconds, event.resize_seconds, event.encode_seconds)))
        self._connection.execute(_TOUCH, (video_no, event.segment, first, last, new, *times, at, position))
        self._connection.execute(_ADD_TO_VIDEO, (video_no, new, *times))

    def judged(
        self,
        run_no: int,
        segment: int,
        position: int,
        *,
        frames: int = 0,
        dropped: int = 0,
        greatest: int = 0,
    ) -> None:
        """`frames` more have a result of every model, the greatest of them `greatest`; `dropped` more were given up."""
        self._connection.execute(_ADD_TO_RUN_SUMS, (run_no, segment, frames, dropped, greatest, position))
        self._connection.execute(_ADD_TO_RUN, (run_no, frames, dropped, greatest, position))

    def modelled(self, run_no: int, event: FramesAnalysed, new: int, position: int) -> None:
        """`new`: how many of the results were not there before."""
        model_no, identity = MODEL_NUMBERS[event.model.key], identity_json(event.model)
        time = sum(nanoseconds(frame.seconds) for frame in event.frames)
        row = (model_no, identity, new, time, position)
        self._connection.execute(_ADD_TO_MODEL_SUMS, (run_no, event.segment, *row))
        self._connection.execute(_ADD_TO_MODEL, (run_no, *row))

    def frame_range(self, video_no: int, segment: int) -> tuple[int, int] | None:
        """The least and the greatest frame number that anything happened to; None: nothing did."""
        found: tuple[int | None, int | None] | None = self._connection.execute(
            "SELECT first_frame, last_frame FROM segment_sums WHERE video_no = ? AND segment = ?",
            (video_no, segment),
        ).fetchone()
        if found is None or found[0] is None or found[1] is None:
            return None
        return found[0], found[1]

    def replace(self, video_no: int, runs: dict[str, int], sums: ExpiredSegment, position: int) -> None:
        """What is known of the segment is `sums` from now on. `runs`: run_id → run_no, of all runs of the video."""
        self._forget(video_no, runs.values(), sums.segment)
        self._connection.execute(
            "INSERT INTO segment_sums VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (video_no, sums.segment, sums.first_frame, sums.last_frame, sums.frames_stored,
             sums.decode_nanoseconds, sums.resize_nanoseconds, sums.encode_nanoseconds, sums.last_event_at, position),
        )  # fmt: skip
        for run in sums.runs:
            if run.run_id in runs:
                self._replace_run(runs[run.run_id], sums.segment, run, position)

    def _forget(self, video_no: int, runs: Iterable[int], segment: int) -> None:
        self._connection.execute(
            "DELETE FROM segment_sums WHERE video_no = ? AND segment = ?", (video_no, segment)
        )
        for run_no in runs:
            for table in ("run_sums", "model_sums", "run_segments"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE run_no = ? AND segment = ?",  # noqa: S608
                    (run_no, segment),
                )

    def _replace_run(self, run_no: int, segment: int, run: ExpiredRun, position: int) -> None:
        self._connection.execute(
            "INSERT INTO run_sums VALUES(?, ?, ?, ?, ?, ?)",
            (run_no, segment, run.frames, run.dropped, run.greatest_frame, position),
        )
        self._connection.executemany(
            "INSERT INTO model_sums VALUES(?, ?, ?, ?, ?, ?, ?)",
            [
                (run_no, segment, MODEL_NUMBERS[one.model.key], identity_json(one.model), one.frames,
                 one.nanoseconds, position)
                for one in run.models
            ],
        )  # fmt: skip
        state = "closed" if run.closed else "failed" if run.failed else "claimed"
        if run.attempt or run.closed or run.failed:
            self._connection.execute(
                "INSERT INTO run_segments VALUES(?, ?, ?, ?, ?, ?, NULL, ?)",
                (run_no, segment, state, run.attempt, run.frames, run.dropped, position),
            )

    def add_up(self, video_no: int, runs: Iterable[int], position: int) -> None:
        """Make the totals of the video and its runs anew."""
        self._connection.execute(_TOTAL_VIDEO, (video_no, position))
        self._connection.execute(_TOTAL_EXPIRED, (video_no,))
        for run_no in runs:
            self._connection.execute(_TOTAL_RUN, (run_no, position))
            self._connection.execute("DELETE FROM run_models WHERE run_no = ?", (run_no,))
            self._connection.execute(_TOTAL_MODELS, (run_no, position))


def identity_json(model: ModelIdentity) -> str:
    return msgspec.json.encode(model).decode()
