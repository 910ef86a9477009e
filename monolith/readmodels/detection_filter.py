"""Which lines of the detection tables are asked for, and in which order they are shown."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Final

import polars as pl

from monolith.domain.detection import EMOTIONS
from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS, shown_from
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.analytics_files import STORED_SCHEMA
from monolith.readmodels.detections import DetectionTables, RunTable
from monolith.readmodels.results import ResultFilter

_MODEL_BITS: Final = 4
_KEY: Final = "key"


def lines_of(run: RunTable, wanted: ResultFilter) -> pl.LazyFrame:
    """Those within the frames and times asked for, also those that say that a frame was judged."""
    lines = run.lines
    if wanted.from_frame is not None:
        lines = lines.filter(pl.col("frame_number") >= wanted.from_frame)
    if wanted.to_frame is not None:
        lines = lines.filter(pl.col("frame_number") <= wanted.to_frame)
    if wanted.from_time is not None:
        lines = lines.filter(pl.col("exact_timestamp") >= wanted.from_time)
    if wanted.to_time is not None:
        lines = lines.filter(pl.col("exact_timestamp") <= wanted.to_time)
    return lines


def is_shown(run: RunTable, wanted: ResultFilter) -> pl.Expr:
    """Whether a line is a detection that is sure enough, and has the label that is asked for (if one is). Lines that
    say that a frame was judged count as sure."""
    sure = _is_sure(run, wanted)
    return sure if wanted.label is None else sure & _has_label(wanted.label)


def _is_sure(run: RunTable, wanted: ResultFilter) -> pl.Expr:
    thresholds = {key: shown_from(key, wanted.min_confidence) for key in run.model_keys}
    by_threshold = {
        threshold: [INFERENCE_MODEL_NAMES[key] for key, own in thresholds.items() if own == threshold]
        for threshold in set(thresholds.values())
    }
    if len(by_threshold) == 1:
        return pl.col("score") >= next(iter(by_threshold))
    return reduce(
        or_,
        (
            (pl.col("score") >= threshold) & (pl.col("model") == name)
            for threshold, names in by_threshold.items()
            for name in names
        ),
    )


def _has_label(label: str) -> pl.Expr:
    """An object's label, a face's emotion, or a colour."""
    if label in COCO_LABELS:
        return pl.col("label") == label
    if label in EMOTIONS:
        return pl.col("emotion") == label
    return pl.col("color") == label


def shown_detections(tables: DetectionTables) -> pl.LazyFrame:
    """The detections of all runs, by frame, then by model, then as the model gave them; columns of `STORED_SCHEMA`."""
    wanted = tables.wanted
    parts = [lines_of(run, wanted).filter(pl.col("entry") > 0, is_shown(run, wanted)) for run in tables.runs]
    if not parts:
        return pl.LazyFrame(schema=STORED_SCHEMA)
    if len(parts) == 1:
        return parts[0]
    keyed = [part.with_columns(_key().alias(_KEY)) for part in parts]
    return reduce(lambda left, right: left.merge_sorted(right, _KEY), keyed).drop(_KEY)


def _key() -> pl.Expr:
    """What orders lines of different models."""
    assert len(MODEL_KEYS) < 1 << _MODEL_BITS
    model = pl.col("model").to_physical().cast(pl.UInt64)
    return pl.col("frame_number").cast(pl.UInt64) * (1 << _MODEL_BITS) + model
