"""Which lines of the detection tables are asked for, and in which order they are shown."""

from __future__ import annotations

from functools import reduce
from typing import Final

import polars as pl

from monolith.domain.detection import EMOTIONS
from monolith.domain.models import MODEL_KEYS, shown_from
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.analytics_files import FIRST_EMOTION, STORED_SCHEMA
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
    """`score` is 1 on lines without a confidence, which always count."""
    objects, faces = (
        shown_from(key, wanted.min_confidence) for key in ("objects_detection", "emotions_detection")
    )
    if objects == faces or "emotions_detection" not in run.model_keys:
        return pl.col("score") >= objects
    if "objects_detection" not in run.model_keys:
        return pl.col("score") >= faces
    of_objects = pl.col("code") < FIRST_EMOTION
    lower = of_objects if objects < faces else ~of_objects
    return (pl.col("score") >= max(objects, faces)) | (lower & (pl.col("score") >= min(objects, faces)))


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
