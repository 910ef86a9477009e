"""What was found in a whole video, class by class, and by which models: each with the run that it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import apsw
import msgspec
import polars as pl

from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS, ModelIdentity, shown_from
from monolith.readmodels.analytics_files import COLOR_CODE, code_of_frame, emotion_of_code, label_of_code
from monolith.readmodels.detection_filter import is_shown, lines_of
from monolith.readmodels.detections import DetectionTables
from monolith.readmodels.palette import PaletteColor, palettes_of, sums_of_colors
from monolith.readmodels.videos import RunView

_OBJECTS: Final = "objects_detection"
_FACES: Final = "emotions_detection"
_COLORS: Final = "color_detection"


class FoundClass(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of one label, or faces. `frames`: how many have any; `greatest`: the most of them in one frame;
    `first_time`, `last_time`: seconds of video; `mean_confidence`: 0–1; `run_id`: the run that found them."""

    label: str
    run_id: str
    frames: int
    detections: int
    greatest: int
    first_time: float
    last_time: float
    mean_confidence: float


class FoundEmotion(msgspec.Struct, frozen=True, kw_only=True):
    """`share`: of all faces, 0–1; `mean_probability`: of the emotion in these faces, 0–1."""

    emotion: str
    run_id: str
    frames: int
    detections: int
    share: float
    mean_probability: float


class Palette(msgspec.Struct, frozen=True, kw_only=True):
    """The main colours of all `frames` pictures together."""

    run_id: str
    frames: int
    colors: tuple[PaletteColor, ...]


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a video: the most frequent first. Times are seconds of video."""

    objects: tuple[FoundClass, ...] = ()
    faces: FoundClass | None = None
    emotions: tuple[FoundEmotion, ...] = ()
    palette: Palette | None = None
    first_time: float | None = None
    last_time: float | None = None


class ModelWork(msgspec.Struct, frozen=True, kw_only=True):
    """What one model did in its run: `frames` with its results, expired ones too; `seconds` of inference, summed;
    `shown_from`: the confidence, 0–1, from which its detections count here; `identity`: which model it was, exactly."""

    model: str
    run_id: str
    frames: int
    seconds: float
    shown_from: float
    identity: ModelIdentity


def findings(tables: DetectionTables) -> Findings:
    """Blocks."""
    if not tables.runs:
        return Findings()
    runs = {key: run.run_id for run in tables.runs for key in run.model_keys}
    codes, emotions, colors = pl.collect_all(_queries(tables), engine="streaming")
    by_code = {row["code"]: row for row in codes.iter_rows(named=True)}
    faces = _faces(by_code.values(), runs.get(_FACES, ""))
    found = (
        _object(label, runs[_OBJECTS], row) for code, row in by_code.items() if (label := label_of_code(code))
    )
    span = tables.span or (None, None)
    return Findings(
        objects=tuple(sorted(found, key=lambda one: (-one.detections, one.label))),
        faces=faces,
        emotions=tuple(_emotions(emotions, runs[_FACES], faces.detections)) if faces else (),
        palette=_palette(colors, runs[_COLORS], by_code) if colors.height else None,
        first_time=span[0],
        last_time=span[1],
    )


def _queries(tables: DetectionTables) -> list[pl.LazyFrame]:
    """By code; by the code of emotions; colours."""
    wanted = tables.wanted
    sure = pl.concat([lines_of(run, wanted).filter(is_shown(run, wanted)) for run in tables.runs])
    codes = sure.group_by("code").agg(
        pl.len().alias("detections"),
        (pl.col("rank") == 1).sum().alias("frames"),
        pl.col("rank").max().alias("greatest"),
        pl.col("timestamp").min().alias("first_time"),
        pl.col("timestamp").max().alias("last_time"),
        pl.col("score").sum().alias("confidence"),
    )
    emotions = (
        sure.filter(pl.col("emotion").is_not_null())
        .group_by("code")
        .agg(
            pl.len().alias("detections"),
            pl.col("frame_number").n_unique().alias("frames"),
            pl.col("emotion_confidence").mean().alias("probability"),
        )
    )
    colors = sums_of_colors(sure.filter(pl.col("code") == COLOR_CODE), pl.lit(0))
    return [codes, emotions, colors]


def _object(label: str, run_id: str, row: dict[str, Any]) -> FoundClass:
    return FoundClass(
        label=label,
        run_id=run_id,
        frames=row["frames"],
        detections=row["detections"],
        greatest=row["greatest"],
        first_time=row["first_time"],
        last_time=row["last_time"],
        mean_confidence=round(row["confidence"] / row["detections"], 4),
    )


def _faces(rows: Iterable[dict[str, Any]], run_id: str) -> FoundClass | None:
    """Those of all emotions together."""
    faces = [row for row in rows if emotion_of_code(row["code"]) is not None]
    if not faces:
        return None
    whole = {name: sum(row[name] for row in faces) for name in ("frames", "detections", "confidence")}
    whole["greatest"] = max(row["greatest"] for row in faces)
    whole["first_time"] = min(row["first_time"] for row in faces)
    whole["last_time"] = max(row["last_time"] for row in faces)
    return _object("face", run_id, whole)


def _emotions(rows: pl.DataFrame, run_id: str, faces: int) -> Iterable[FoundEmotion]:
    for row in rows.sort("detections", "code", descending=[True, False]).iter_rows(named=True):
        emotion = emotion_of_code(row["code"])
        assert emotion is not None
        yield FoundEmotion(
            emotion=emotion,
            run_id=run_id,
            frames=row["frames"],
            detections=row["detections"],
            share=round(row["detections"] / faces, 4),
            mean_probability=round(row["probability"], 4),
        )


def _palette(sums: pl.DataFrame, run_id: str, by_code: dict[int, dict[str, Any]]) -> Palette:
    frames = by_code[code_of_frame(_COLORS)]["detections"]
    return Palette(run_id=run_id, frames=frames, colors=palettes_of(sums, {0: frames}).get(0, ()))


def models_at_work(
    connection: apsw.Connection, runs: Iterable[tuple[RunView, tuple[str, ...]]], min_confidence: float | None
) -> list[ModelWork]:
    """`runs`: each with the keys of its models that count; models that have not begun are left out."""
    return [
        ModelWork(
            model=INFERENCE_MODEL_NAMES[MODEL_KEYS[model_no]],
            run_id=run.run_id,
            frames=frames,
            seconds=nanoseconds / 1e9,
            shown_from=shown_from(MODEL_KEYS[model_no], min_confidence),
            identity=msgspec.json.decode(identity, type=ModelIdentity),
        )
        for run, keys in runs
        for model_no, identity, frames, nanoseconds in _work(connection, run.run_no)
        if MODEL_KEYS[model_no] in keys
    ]


def _work(connection: apsw.Connection, run_no: int) -> list[Any]:
    return connection.execute(
        "SELECT model_no, identity, frames, nanoseconds FROM run_models WHERE run_no = ? ORDER BY model_no",
        (run_no,),
    ).fetchall()
