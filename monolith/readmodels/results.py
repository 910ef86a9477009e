"""Results of frames: which run answers for which model, and pages of rows ready to send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import apsw
import msgspec

from monolith.domain.detection import Detection
from monolith.domain.errors import RunNotFoundError
from monolith.domain.events import AnalysedFrame
from monolith.domain.models import MODEL_KEYS, shown_from
from monolith.readmodels.rendering import RowRenderer, decode_detections
from monolith.readmodels.schema import (
    KEY_MASK,
    MAX_FRAME_NUMBER,
    MODEL_BITS,
    MODEL_MASK,
    MODEL_NUMBERS,
    result_id,
)
from monolith.readmodels.videos import RunView, VideoView

START: Final = -1
"""The cursor before the first row."""

_RANK: Final = {"Completed": 2, "Processing": 1, "Pending": 1, "Failed": 0}


class Source(msgspec.Struct, frozen=True):
    """The results of a run that count, by their model numbers."""

    run_no: int
    model_numbers: tuple[int, ...]


class Selection(msgspec.Struct, frozen=True):
    """Which runs answer for a video; each model once."""

    video_id: str
    sources: tuple[Source, ...]
    generation: int = 0
    """Of the file that the `run_no`s belong to."""

    @property
    def run_numbers(self) -> list[int]:
        return [source.run_no for source in self.sources]


class ResultFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted. Frame numbers and times (seconds of video) are inclusive; None: no limit.

    `min_confidence` (0–1) replaces the default thresholds. `label`: only detections with this label (an object's
    label, a face's emotion, a colour) and only rows that have one.
    """

    from_frame: int | None = None
    to_frame: int | None = None
    from_time: float | None = None
    to_time: float | None = None
    min_confidence: float | None = None
    label: str | None = None

    @property
    def as_rendered(self) -> bool:
        """Whether the rows can be taken as they were rendered when projected."""
        return self.min_confidence is None and self.label is None


class Page(msgspec.Struct, frozen=True):
    """`rows` rows of JSON text, joined; `cursor`: where the next page starts; `end`: nothing follows."""

    text: bytes
    rows: int
    cursor: int
    end: bool


class FrameDetections(msgspec.Struct, frozen=True):
    """All that a model found in a frame, the unsure included."""

    model_key: str
    detections: tuple[Detection, ...]


def select_runs(video: VideoView, *, models: Sequence[str] = (), run_id: str | None = None) -> Selection:
    """For each model (of `models`, if any are named) the newest completed run, else the newest one under way, else the
    newest that failed. `run_id`: this run alone.

    Raises RunNotFoundError where it is no run of the video.
    """
    if run_id is not None and all(run.run_id != run_id for run in video.runs):
        raise RunNotFoundError(video.video_id, run_id)
    best: dict[str, RunView] = {}
    for run in sorted(video.runs, key=lambda run: run.run_no):
        for model in run.models:
            held = best.get(model)
            if run_id in (None, run.run_id) and (held is None or _RANK[run.status] >= _RANK[held.status]):
                best[model] = run
    by_run: dict[int, list[int]] = {}
    for model, run in best.items():
        if not models or model in models:
            by_run.setdefault(run.run_no, []).append(MODEL_NUMBERS[model])
    sources = tuple(Source(run, tuple(sorted(by_run[run]))) for run in sorted(by_run))
    return Selection(video.video_id, sources, video.generation)


def read_page(
    connection: apsw.Connection,
    selection: Selection,
    wanted: ResultFilter,
    cursor: int,
    limit: int,
    separator: bytes = b",",
) -> Page:
    """At most `limit` rows after `cursor` (`START` or that of a page), by frame and then by model.

    A page may hold fewer rows, or none, and not be the end: it looks at `limit` stored results.
    """
    if not selection.sources:
        return Page(b"", 0, cursor, True)
    if wanted.as_rendered:
        return _joined_page(connection, selection, wanted, cursor, limit, separator)
    return _rendered_page(connection, selection, wanted, cursor, limit, separator)


def frame_detections(
    connection: apsw.Connection, selection: Selection, frame_number: int
) -> list[FrameDetections]:
    wanted = ResultFilter(from_frame=frame_number, to_frame=frame_number)
    sql, values = _query(selection, wanted, START, MODEL_MASK + 1, "detections")
    return [
        FrameDetections(MODEL_KEYS[key & MODEL_MASK], decode_detections(data))
        for key, data in connection.execute(sql, values)
    ]


def _joined_page(
    connection: apsw.Connection,
    selection: Selection,
    wanted: ResultFilter,
    cursor: int,
    limit: int,
    separator: bytes,
) -> Page:
    """SQLite joins the rows, outside of Python's lock."""
    inner, values = _query(selection, wanted, cursor, limit, "fragment")
    sql = f"SELECT CAST(group_concat(fragment, ?) AS BLOB), count(*), max(key) FROM ({inner})"  # noqa: S608
    found: Any = connection.execute(sql, [separator.decode(), *values]).fetchone()
    text, rows, last = found
    return Page(text or b"", rows, cursor if last is None else last, rows < limit)


def _rendered_page(
    connection: apsw.Connection,
    selection: Selection,
    wanted: ResultFilter,
    cursor: int,
    limit: int,
    separator: bytes,
) -> Page:
    columns = "timestamp, started_at, seconds, detections"
    sql, values = _query(selection, wanted, cursor, limit, columns)
    found: list[Any] = connection.execute(sql, values).fetchall()
    rows = list(_render(selection.video_id, wanted, found))
    return Page(separator.join(rows), len(rows), found[-1][0] if found else cursor, len(found) < limit)


def _render(video_id: str, wanted: ResultFilter, found: list[tuple[Any, ...]]) -> Iterator[bytes]:
    renderers: dict[int, RowRenderer] = {}
    for key, timestamp, started_at, seconds, data in found:
        model_no = key & MODEL_MASK
        if model_no not in renderers:
            renderers[model_no] = _renderer(video_id, MODEL_KEYS[model_no], wanted)
        renderer = renderers[model_no]
        detections = decode_detections(data)
        if wanted.label is None or any(map(renderer.shows, detections)):
            yield renderer.row(
                AnalysedFrame(
                    frame_number=key >> MODEL_BITS,
                    timestamp=timestamp,
                    detections=detections,
                    started_at=started_at,
                    seconds=seconds,
                )
            )


def _renderer(video_id: str, model_key: str, wanted: ResultFilter) -> RowRenderer:
    threshold = shown_from(model_key, wanted.min_confidence)
    return RowRenderer(video_id, model_key, threshold, wanted.label)


def _query(
    selection: Selection, wanted: ResultFilter, cursor: int, limit: int, columns: str
) -> tuple[str, list[apsw.SQLiteValue]]:
    """SQL for `key` and `columns` of the next `limit` results; `key` is the id within its run."""
    low = max(cursor + 1, (wanted.from_frame or 0) << MODEL_BITS)
    high = (MAX_FRAME_NUMBER if wanted.to_frame is None else wanted.to_frame) << MODEL_BITS | MODEL_MASK
    parts: list[str] = []
    values: list[apsw.SQLiteValue] = []
    for source in selection.sources:
        base = result_id(source.run_no, 0, 0)
        marks = ",".join(map(str, source.model_numbers))
        parts.append(
            f"SELECT id & {KEY_MASK} AS key, {columns} FROM results WHERE id BETWEEN ? AND ?"  # noqa: S608
            f" AND id & {MODEL_MASK} IN ({marks}){_time_condition(wanted)} ORDER BY id LIMIT ?"
        )
        values += [base | low, base | high, *_times(wanted), limit]
    if len(parts) == 1:
        return parts[0], values
    union = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)  # noqa: S608
    return f"SELECT * FROM ({union}) ORDER BY key LIMIT ?", [*values, limit]  # noqa: S608


def _time_condition(wanted: ResultFilter) -> str:
    return (" AND timestamp >= ?" if wanted.from_time is not None else "") + (
        " AND timestamp <= ?" if wanted.to_time is not None else ""
    )


def _times(wanted: ResultFilter) -> list[float]:
    return [time for time in (wanted.from_time, wanted.to_time) if time is not None]
