"""Events about frames and what models found in them → rows."""

from __future__ import annotations

import functools
from typing import Final

from monolith.domain.events import FramesAnalysed, FramesDropped, FramesStored
from monolith.domain.models import DEFAULT_THRESHOLDS, MODEL_KEYS
from monolith.readmodels.projected_rows import Rows, RunRow
from monolith.readmodels.rendering import RowRenderer, encode_detections
from monolith.readmodels.schema import (
    FRAME_BITS,
    KEY_BITS,
    MODEL_BITS,
    MODEL_MASK,
    MODEL_NUMBERS,
    frame_id,
    result_id,
)

_ALL_MODELS: Final = MODEL_MASK
"""`dropped.model_no` of a frame that no model has."""


def frames_stored(rows: Rows, event: FramesStored, position: int) -> None:
    video_no = rows.video(event.video_id)
    if video_no is None or rows.has_expired(event.video_id, event.segment):
        return
    before = rows.connection.total_changes()
    rows.connection.executemany(
        "INSERT OR IGNORE INTO frames VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (frame_id(video_no, frame.frame_number), frame.timestamp, event.pack, frame.offset, frame.length,
             frame.width, frame.height, event.segment, position)
            for frame in event.frames
        ],
    )  # fmt: skip
    new = rows.connection.total_changes() - before
    rows.sums.stored(video_no, event, new, rows.recorded_at, position)


def frames_dropped(rows: Rows, event: FramesDropped, position: int) -> None:
    run, numbers = rows.run(event.run_id), event.frame_numbers
    if run is None or not numbers or rows.has_expired(event.video_id, event.segment):
        return
    model_no = _ALL_MODELS if event.model is None else MODEL_NUMBERS[event.model]
    before = _dropped_frames(rows, run, min(numbers), max(numbers))
    rows.connection.executemany(
        "INSERT OR IGNORE INTO dropped VALUES(?, ?, ?, ?, ?, ?)",
        [(run.run_no, n, model_no, event.segment, event.reason, position) for n in numbers],
    )
    new = _dropped_frames(rows, run, min(numbers), max(numbers)) - before
    rows.sums.judged(run.run_no, event.segment, position, dropped=new)
    rows.sums.touch(run.video_no, event.segment, numbers, rows.recorded_at, position)


def _dropped_frames(rows: Rows, run: RunRow, first: int, last: int) -> int:
    """How many frames between `first` and `last` the run has given up, for a model or for all."""
    sql = "SELECT count(DISTINCT frame_number) FROM dropped WHERE run_no = ? AND frame_number BETWEEN ? AND ?"
    return int(rows.one(sql, (run.run_no, first, last)))


def frames_analysed(rows: Rows, event: FramesAnalysed, position: int) -> None:
    run = rows.run(event.run_id)
    if run is None or not event.frames or rows.has_expired(event.video_id, event.segment):
        return
    numbers = [frame.frame_number for frame in event.frames]
    whole = functools.partial(_whole_frames, rows, run, min(numbers), max(numbers))
    count_before, _ = whole()
    added = _add_results(rows, event, run, MODEL_NUMBERS[event.model.key], position)
    count, greatest = whole()
    new = count - count_before
    rows.sums.judged(run.run_no, event.segment, position, frames=new, greatest=greatest)
    rows.sums.modelled(run.run_no, event, added, position)
    rows.sums.touch(run.video_no, event.segment, numbers, rows.recorded_at, position)


def _add_results(rows: Rows, event: FramesAnalysed, run: RunRow, model_no: int, position: int) -> int:
    """How many results are new."""
    key = MODEL_KEYS[model_no]
    row = RowRenderer(event.video_id, key, DEFAULT_THRESHOLDS[key]).row
    low = run.run_no << KEY_BITS | model_no
    before = rows.connection.total_changes()
    rows.connection.executemany(
        "INSERT OR IGNORE INTO results VALUES(?, ?, ?, ?, ?, ?, ?)",
        [
            (low | frame.frame_number << MODEL_BITS, frame.timestamp, frame.started_at, frame.seconds, position,
             row(frame), encode_detections(frame.detections))
            for frame in event.frames
        ],
    )  # fmt: skip
    return rows.connection.total_changes() - before


def _whole_frames(rows: Rows, run: RunRow, first: int, last: int) -> tuple[int, int]:
    """How many frames between `first` and `last` have a result of every model, and the greatest (0: none)."""
    found: tuple[int, int] = rows.one(
        "SELECT count(*), coalesce(max(frame), 0) FROM (SELECT id >> ? & ? AS frame FROM results"
        " WHERE id BETWEEN ? AND ? GROUP BY frame HAVING count(*) = ?)",
        (MODEL_BITS, (1 << FRAME_BITS) - 1, result_id(run.run_no, first, 0),
         result_id(run.run_no, last, MODEL_MASK), run.models),
    )  # fmt: skip
    return found
