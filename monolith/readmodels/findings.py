"""What was found, frame by frame, with where each frame lies: for files that are made from results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

import apsw
import msgspec

from monolith.domain.detection import Detection, at_least
from monolith.domain.models import MODEL_KEYS, shown_from
from monolith.readmodels.rendering import decode_detections, label_of
from monolith.readmodels.results import ResultFilter, Selection, Source
from monolith.readmodels.schema import (
    FRAME_BITS,
    KEY_MASK,
    MAX_FRAME_NUMBER,
    MODEL_BITS,
    MODEL_MASK,
    frame_id,
    result_id,
)

_COLUMNS: Final = "timestamp, detections, pack, offset, length, width, height"


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """A frame, and what each model that is done with it found, thresholds applied; models by their keys.

    The JPEG is `length` bytes from `offset` of the video's pack `pack`; size in pixels, time in seconds.
    """

    frame_number: int
    timestamp: float
    pack: str
    offset: int
    length: int
    width: int
    height: int
    found: tuple[tuple[str, tuple[Detection, ...]], ...]

    @property
    def detections(self) -> tuple[Detection, ...]:
        """Those of all models."""
        return tuple(detection for _, detections in self.found for detection in detections)


class FindingsPage(msgspec.Struct, frozen=True):
    """Frames in order. `cursor`: the next page comes after it; None: nothing follows."""

    frames: tuple[Findings, ...]
    cursor: int | None


def read_findings(
    connection: apsw.Connection,
    video_no: int,
    selection: Selection,
    wanted: ResultFilter,
    cursor: int,
    frames: int,
) -> FindingsPage:
    """At most `frames` frames with results after the frame number `cursor` (0: from the first on).

    Frames whose picture is gone are left out; those in which nothing is found are not.
    """
    if not selection.sources:
        return FindingsPage((), None)
    limit = frames * len(MODEL_KEYS) + 1
    rows = _rows(connection, video_no, selection.sources, wanted, cursor, limit)
    full = len(rows) == limit
    if full:  # what is left of its last frame comes with the next page
        last = rows[-1][0] >> MODEL_BITS
        rows = [row for row in rows if row[0] >> MODEL_BITS != last]
        return FindingsPage(tuple(_findings(rows, wanted)), last - 1)
    return FindingsPage(tuple(_findings(rows, wanted)), None)


def _findings(rows: Iterable[tuple[Any, ...]], wanted: ResultFilter) -> Iterator[Findings]:
    for number, group in groupby(rows, lambda row: int(row[0]) >> MODEL_BITS):
        of_frame = list(group)
        _, timestamp, _, *place = of_frame[0]
        found = tuple(_shown(MODEL_KEYS[row[0] & MODEL_MASK], row[2], wanted) for row in of_frame)
        pack, offset, length, width, height = place
        yield Findings(
            frame_number=number, timestamp=timestamp, pack=pack, offset=offset, length=length, width=width,
            height=height, found=found,
        )  # fmt: skip


def _shown(model_key: str, data: bytes, wanted: ResultFilter) -> tuple[str, tuple[Detection, ...]]:
    threshold = shown_from(model_key, wanted.min_confidence)
    return model_key, tuple(
        detection
        for detection in decode_detections(data)
        if at_least(detection, threshold) and wanted.label in (None, label_of(detection))
    )


def _rows(
    connection: apsw.Connection,
    video_no: int,
    sources: Iterable[Source],
    wanted: ResultFilter,
    cursor: int,
    limit: int,
) -> list[tuple[Any, ...]]:
    """`key` (the result's id within its run) and `_COLUMNS` of the next `limit` results, by frame, then by model."""
    low = max(cursor + 1, wanted.from_frame or 0) << MODEL_BITS
    high = (MAX_FRAME_NUMBER if wanted.to_frame is None else wanted.to_frame) << MODEL_BITS | MODEL_MASK
    condition, times = _between(wanted, "r.timestamp")
    parts: list[str] = []
    values: list[apsw.SQLiteValue] = []
    for source in sources:
        marks = ",".join(map(str, source.model_numbers))
        parts.append(
            f"SELECT * FROM (SELECT r.id & {KEY_MASK} AS key, r.{_COLUMNS} FROM results r"  # noqa: S608
            f" JOIN frames f ON f.id = ? | ((r.id & {KEY_MASK}) >> {MODEL_BITS})"
            f" WHERE r.id BETWEEN ? AND ? AND r.id & {MODEL_MASK} IN ({marks}){condition}"
            " ORDER BY r.id LIMIT ?)"
        )
        base = result_id(source.run_no, 0, 0)
        values += [frame_id(video_no, 0), base | low, base | high, *times, limit]
    sql = f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY key LIMIT ?"  # noqa: S608
    rows: list[tuple[Any, ...]] = connection.execute(sql, [*values, limit]).fetchall()
    return rows


def _between(wanted: ResultFilter, column: str) -> tuple[str, list[float]]:
    """SQL and values for the wanted times."""
    bounds = ((">=", wanted.from_time), ("<=", wanted.to_time))
    condition = "".join(f" AND {column} {sign} ?" for sign, time in bounds if time is not None)
    return condition, [time for _, time in bounds if time is not None]


class StoredExtent(msgspec.Struct, frozen=True, kw_only=True):
    """Which stored frames there are. `sizes`: width and height in pixels → how many."""

    first_frame: int
    last_frame: int
    sizes: dict[tuple[int, int], int]


class ExtentSlice(msgspec.Struct, frozen=True):
    """A part of the frames: (width, height) → how many. `last`: its last frame; None: there is none."""

    counts: dict[tuple[int, int], int]
    first: int | None
    last: int | None


def read_extent_slice(
    connection: apsw.Connection, video_no: int, wanted: ResultFilter, after: int, limit: int
) -> ExtentSlice:
    """What the next `limit` stored frames after frame `after` are like."""
    high = MAX_FRAME_NUMBER if wanted.to_frame is None else wanted.to_frame
    condition, times = _between(wanted, "timestamp")
    low = max(after + 1, wanted.from_frame or 0)
    rows: list[Any] = connection.execute(
        "SELECT width, height, count(*), min(id), max(id) FROM"  # noqa: S608
        f" (SELECT * FROM frames WHERE id BETWEEN ? AND ?{condition} ORDER BY id LIMIT ?)"
        " GROUP BY width, height",
        (frame_id(video_no, low), frame_id(video_no, high), *times, limit),
    ).fetchall()
    mask = (1 << FRAME_BITS) - 1
    return ExtentSlice(
        {(width, height): count for width, height, count, _, _ in rows},
        min((row[3] & mask for row in rows), default=None),
        max((row[4] & mask for row in rows), default=None),
    )


def extent_of(slices: Iterable[ExtentSlice]) -> StoredExtent | None:
    """All slices of a video together; None: no frame is there."""
    sizes: Counter[tuple[int, int]] = Counter()
    numbers: list[int] = []
    for part in slices:
        sizes.update(part.counts)
        numbers += [number for number in (part.first, part.last) if number is not None]
    if not numbers:
        return None
    return StoredExtent(first_frame=min(numbers), last_frame=max(numbers), sizes=dict(sizes))
