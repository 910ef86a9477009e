"""What was found when: counts of classes, shares of emotions and colours, for equal pieces of a video's time."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import polars as pl

from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.analytics_files import (
    COLOR_CODE,
    code_of_frame,
    emotion_of_code,
    label_of_code,
)
from monolith.readmodels.detection_filter import is_shown, lines_of
from monolith.readmodels.detections import DetectionTables, RunTable
from monolith.readmodels.palette import NO_SUMS, PaletteColor, palettes_of, sums_of_colors

MOST_BUCKETS: Final = 10_000
LEAST_SECONDS: Final = 0.001
_ABOUT: Final = 200
"""Buckets that `auto` makes at most; seldom fewer than half of it."""
_FINE: Final = 40
"""Buckets of less than a second that it makes at most: they are often shorter than the time between two frames."""
_DAY: Final = 86_400.0
_ROUND: Final = (
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0,
    7200.0, 10800.0, 14400.0, 21600.0, 43200.0, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY,
)  # fmt: skip
_CODES: Final = 256
_SLIP: Final = 1e-9
"""A time that is a bucket's start but for what binary fractions lose belongs to that bucket."""


class ClassCount(msgspec.Struct, frozen=True):
    """Detections of one class, and the greatest number of them in one frame."""

    detections: int
    greatest: int


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What was found from `time` on (seconds of video), until the next one begins.

    `frames`: analysed, by the model that has done most; `objects`: by label; `faces`: None without any; `emotions`:
    shares of the faces, 0–1; `colors`: the greatest shares of the pictures, 0–1, the greatest first.
    """

    time: float
    frames: int = 0
    objects: dict[str, ClassCount] = {}
    faces: ClassCount | None = None
    emotions: dict[str, float] = {}
    colors: tuple[PaletteColor, ...] = ()


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets of `bucket` seconds without a gap, from the first time asked for (or found) to the last."""

    bucket: float
    buckets: tuple[Bucket, ...]


def timeline(tables: DetectionTables, bucket: float | None) -> Timeline:
    """`bucket`: seconds (None: a round number that makes about 200). Blocks.

    Raises InvalidRequestError for more than `MOST_BUCKETS` buckets.
    """
    span = _span(tables)
    if span is None or not tables.runs:
        return Timeline(bucket=bucket or _ROUND[0], buckets=())
    seconds = auto_bucket(span[1] - span[0]) if bucket is None else bucket
    first, last = _number(span[0], seconds), _number(span[1], seconds)
    if last - first >= MOST_BUCKETS:
        least = (span[1] - span[0]) / (MOST_BUCKETS - 1)
        raise InvalidRequestError(
            f"buckets of {seconds:g} s make {last - first + 1} of them, more than {MOST_BUCKETS}; take at least "
            f"{least:.3f} s, or a part of the video (from_time, to_time)",
            field="bucket",
        )
    counts, colors = _answers(tables, seconds)
    makers = {number: _Maker() for number in range(first, last + 1)}
    for key, lines, greatest in counts.iter_rows():
        makers[key // _CODES].count(key % _CODES, lines, greatest or 0)
    palettes = palettes_of(colors, {number: maker.colored_frames for number, maker in makers.items()})
    return Timeline(
        bucket=seconds,
        buckets=tuple(
            maker.bucket(round(number * seconds, 6), palettes.get(number, ()))
            for number, maker in makers.items()
        ),
    )


def auto_bucket(seconds: float) -> float:
    """The least round number of seconds that divides `seconds` into at most about 200 pieces (40 below a second)."""
    fitting = (one for one in _ROUND if seconds / one <= (_ABOUT if one >= 1 else _FINE))
    return next(fitting, seconds / _ABOUT)


def _span(tables: DetectionTables) -> tuple[float, float] | None:
    """The times that were asked for, where they were, else those that there are."""
    found, wanted = tables.span, tables.wanted
    if found is None:
        return None
    first = found[0] if wanted.from_time is None else max(wanted.from_time, found[0])
    last = found[1] if wanted.to_time is None else min(wanted.to_time, found[1])
    return (first, last) if first <= last else None


def _number(time: float, seconds: float) -> int:
    return math.floor(time / seconds + _SLIP)


def _answers(tables: DetectionTables, seconds: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts by bucket and code; sums of colours by bucket and kind."""
    bucket = (pl.col("exact_timestamp") / seconds + _SLIP).floor().cast(pl.Int64)
    counts = pl.concat([_sure(tables, run, bucket) for run in tables.runs]).group_by("key")
    queries = [counts.agg(pl.len(), pl.col("rank").max())]
    colored = [run for run in tables.runs if "color_detection" in run.model_keys]
    queries += [
        sums_of_colors(lines_of(run, tables.wanted).filter(pl.col("code") == COLOR_CODE), bucket)
        for run in colored
    ]
    counted, *sums = pl.collect_all(queries, engine="streaming")
    return counted, sums[0] if sums else NO_SUMS


def _sure(tables: DetectionTables, run: RunTable, bucket: pl.Expr) -> pl.LazyFrame:
    lines = lines_of(run, tables.wanted).filter(is_shown(run, tables.wanted))
    return lines.select((bucket * _CODES + pl.col("code")).alias("key"), "rank")


class _Maker:
    """A bucket in the making."""

    def __init__(self) -> None:
        self._judged: dict[int, int] = {}
        self._objects: dict[str, ClassCount] = {}
        self._faces: dict[str, ClassCount] = {}

    def count(self, code: int, lines: int, greatest: int) -> None:
        if (label := label_of_code(code)) is not None:
            self._objects[label] = ClassCount(lines, greatest)
        elif (emotion := emotion_of_code(code)) is not None:
            self._faces[emotion] = ClassCount(lines, greatest)
        elif code != COLOR_CODE:
            self._judged[code] = lines

    @property
    def colored_frames(self) -> int:
        return self._judged.get(_COLORED, 0)

    def bucket(self, time: float, colors: tuple[PaletteColor, ...]) -> Bucket:
        faces = sum(count.detections for count in self._faces.values())
        greatest = max((count.greatest for count in self._faces.values()), default=0)
        objects = sorted(self._objects.items(), key=_most_first)
        emotions = sorted(self._faces.items(), key=_most_first)
        return Bucket(
            time=time,
            frames=max(self._judged.values(), default=0),
            objects=dict(objects),
            faces=ClassCount(faces, greatest) if faces else None,
            emotions={emotion: round(count.detections / faces, 4) for emotion, count in emotions},
            colors=colors,
        )


_COLORED: Final = code_of_frame("color_detection")


def _most_first(item: tuple[str, Any]) -> tuple[int, str]:
    return -item[1].detections, item[0]
