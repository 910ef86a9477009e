"""The analytics files: what one run found in one segment, as Parquet, for counts and exports over many rows.

ANALYTICS/VIDEO_ID/RUN_ID/
├── 000064.parquet          one closed segment
└── group-000000-000015.parquet   a group of small ones in a row, put together; their own files are gone

A line is a detection, or (`entry` 0) says that a model has judged a frame, whatever it found. Lines are in the order
of `/results`: by frame, then by model, then as the model gave them. Columns, null where they do not apply:

- `video_id`, `run_id`, `segment` (from 0), `frame_number`, `timestamp` (seconds, 6 decimals), `model`,
  `entry` (from 1)
- `label`, `confidence`, `x`, `y`, `width`, `height`, `face_id`, `emotion`, `emotion_confidence`, `color`, `share`: as
  in `monolith.readmodels.export`
- `exact_timestamp`, `score`: what filters compare: the timestamp and the confidence (1 where there is none) as they
  were before they were rounded
- `rank`: how many detections of this label in this frame are at least as sure as this one, itself included: where a
  threshold leaves any of them, the greatest rank left is their number
- `code`: what the line is, as one number (see `code_of_frame` …), quick to group by
- `rgb`: the colour as a number, red first
- `started_at` (Unix seconds), `seconds`: of the model's work; on lines with `entry` 0
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import polars as pl

from monolith.domain.detection import EMOTIONS, ColorShare, Detection, ObjectDetection
from monolith.domain.events import AnalysedFrame
from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS
from monolith.frames.pack import sync_folder
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.export import FACE, SCHEMA
from monolith.readmodels.rendering import ColorEntry, ObjectEntry, entry

GROUPS: Final = (16, 256)
"""Segments that are put together when they are all there: first the fewer, then those of several such groups."""
GROUP_ROWS: Final = 500_000
"""What is larger stays as it is: it is the number of files that costs."""
ROW_GROUP: Final = 65_536
COMPRESSION: Final = "lz4"
"""Half as large again as zstd, and a third quicker to count over."""

_PIECE: Final = 50_000

_FIRST_OBJECT: Final = 16
FIRST_EMOTION: Final = 112
"""`code` is smaller on lines of objects, and of frames."""
COLOR_CODE: Final = 128

STORED_SCHEMA: Final[dict[str, pl.DataType]] = {
    "video_id": pl.String(),
    "run_id": pl.String(),
    "segment": pl.UInt32(),
    "frame_number": pl.UInt32(),
    "timestamp": pl.Float64(),
    "exact_timestamp": pl.Float64(),
    "model": SCHEMA["model"],
    "entry": pl.UInt16(),
    "code": pl.UInt8(),
    "label": SCHEMA["label"],
    "confidence": pl.Float64(),
    "score": pl.Float64(),
    "rank": pl.UInt16(),
    "x": pl.Float64(),
    "y": pl.Float64(),
    "width": pl.Float64(),
    "height": pl.Float64(),
    "face_id": pl.UInt32(),
    "emotion": SCHEMA["emotion"],
    "emotion_confidence": pl.Float64(),
    "color": pl.String(),
    "share": pl.Float64(),
    "rgb": pl.UInt32(),
    "started_at": pl.Float64(),
    "seconds": pl.Float64(),
}
_CONSTANT: Final = ("video_id", "run_id", "segment")


class _Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The columns that differ from line to line, in their order."""

    frame_number: int
    timestamp: float
    exact_timestamp: float
    model: str
    entry: int
    code: int
    label: str | None = None
    confidence: float | None = None
    score: float = 1.0
    rank: int | None = None
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    face_id: int | None = None
    emotion: str | None = None
    emotion_confidence: float | None = None
    color: str | None = None
    share: float | None = None
    rgb: int | None = None
    started_at: float | None = None
    seconds: float | None = None


def code_of_frame(model_key: str) -> int:
    """The `code` of lines that say that a model has judged a frame."""
    return MODEL_KEYS.index(model_key)


def label_of_code(code: int) -> str | None:
    """The object's label, or None: it is no object."""
    return COCO_LABELS[code - _FIRST_OBJECT] if _FIRST_OBJECT <= code < FIRST_EMOTION else None


def emotion_of_code(code: int) -> str | None:
    """The face's emotion, or None: it is no face."""
    return EMOTIONS[code - FIRST_EMOTION] if FIRST_EMOTION <= code < COLOR_CODE else None


class TableBuilder:
    """Collects what models found in a segment: `add`…, then `table`. A result that comes again counts once."""

    def __init__(self, video_id: str, run_id: str, segment: int | None) -> None:
        self._constants: dict[str, Any] = {"video_id": video_id, "run_id": run_id, "segment": segment}
        self._seen: set[tuple[int, int]] = set()
        self._lines: list[_Line] = []
        self._tables: list[pl.DataFrame] = []
        self.rows = 0

    def add(self, model_key: str, frames: Iterable[AnalysedFrame]) -> None:
        """Raises ValueError for an unknown model or label."""
        model_no = MODEL_KEYS.index(model_key)
        before = len(self._lines)
        for frame in frames:
            key = (frame.frame_number, model_no)
            if key not in self._seen:
                self._seen.add(key)
                self._lines += _lines(model_key, frame)
        self.rows += len(self._lines) - before
        if len(self._lines) >= _PIECE:
            self._pack()

    def _pack(self) -> None:
        """A table takes a fifth of the memory."""
        rows = map(msgspec.structs.astuple, self._lines)
        names = _Line.__struct_fields__
        columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(names)
        series = [
            pl.Series(name, values, STORED_SCHEMA[name]) for name, values in zip(names, columns, strict=True)
        ]
        constants = [
            pl.lit(value, STORED_SCHEMA[name]).alias(name) for name, value in self._constants.items()
        ]
        self._tables.append(pl.DataFrame(series).with_columns(constants).select(list(STORED_SCHEMA)))
        self._lines = []

    def table(self) -> pl.DataFrame:
        """All lines, in order, with the columns of `STORED_SCHEMA`."""
        self._pack()
        return pl.concat(self._tables).sort("frame_number", "model", "entry")


def _lines(model_key: str, frame: AnalysedFrame) -> list[_Line]:
    """One for the frame, and one for each detection; what users see is rounded as in `/results`."""
    head: dict[str, Any] = {
        "frame_number": frame.frame_number,
        "timestamp": round(frame.timestamp, 6),
        "exact_timestamp": frame.timestamp,
        "model": INFERENCE_MODEL_NAMES[model_key],
    }
    judged = _Line(
        **head, entry=0, code=code_of_frame(model_key), started_at=frame.started_at, seconds=frame.seconds
    )
    ranked = enumerate(zip(frame.detections, _ranks(frame.detections), strict=True), 1)
    return [judged, *(_Line(**head, entry=n, **_found(detection, rank)) for n, (detection, rank) in ranked)]


def _found(detection: Detection, rank: int | None) -> dict[str, Any]:
    shown = entry(detection)
    if isinstance(shown, ColorEntry):
        rgb = int(shown.color.removeprefix("#"), 16)
        return {"code": COLOR_CODE, "color": shown.color, "share": shown.share, "rgb": rgb}
    assert not isinstance(detection, ColorShare)
    x, y, width, height = shown.coordinates
    common = {
        "confidence": fraction(shown.probability), "score": detection.confidence, "rank": rank,
        "x": x, "y": y, "width": width, "height": height,
    }  # fmt: skip
    if isinstance(shown, ObjectEntry):
        code = _FIRST_OBJECT + COCO_LABELS.index(shown.label)
        return {**common, "code": code, "label": shown.label}
    return {
        **common,
        "code": FIRST_EMOTION + EMOTIONS.index(shown.emotion),
        "label": FACE,
        "face_id": shown.face_id,
        "emotion": shown.emotion,
        "emotion_confidence": fraction(shown.emotion_probability),
    }


def fraction(percent: float) -> float:
    """0–100 → 0–1, without what binary fractions add."""
    return round(percent / 100, 6)


def _ranks(detections: Sequence[Detection]) -> list[int | None]:
    """For each its place, from 1, among those of its label by confidence, the surest first; None for colours."""
    ranks: list[int | None] = [None] * len(detections)
    seen: Counter[str] = Counter()
    confidences = [
        (-found.confidence, place)
        for place, found in enumerate(detections)
        if not isinstance(found, ColorShare)
    ]
    for _, place in sorted(confidences):
        found = detections[place]
        label = found.class_name if isinstance(found, ObjectDetection) else FACE
        seen[label] += 1
        ranks[place] = seen[label]
    return ranks


def file_of(segment: int) -> str:
    """The name of the file of one segment."""
    return f"{segment:06d}.parquet"


def group_file_of(first: int, last: int, edition: int = 0) -> str:
    """The name of the file of several. One that loses a segment is written anew, under another name: `edition` from 1.
    Who still reads the old one is not disturbed."""
    return f"group-{first:06d}-{last:06d}{f'.{edition}' if edition else ''}.parquet"


def edition_of(file: str) -> int:
    """Which edition of a group's file the name means."""
    middle = file.removesuffix(".parquet").rpartition(".")[2]
    return 0 if "-" in middle else int(middle)


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write `path` whole and synced, or not at all. Blocks; raises OSError."""
    write_whole(
        path, lambda file: table.write_parquet(file, compression=COMPRESSION, row_group_size=ROW_GROUP)
    )


def write_lines(path: Path, lines: pl.LazyFrame) -> None:
    """As `write_table`, without holding all of them in memory."""
    write_whole(
        path,
        lambda file: lines.sink_parquet(
            file, compression=COMPRESSION, row_group_size=ROW_GROUP, engine="streaming"
        ),
    )


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a new file, sync it, and give it its name. Blocks; raises OSError and what `write` raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    sync_folder(path.parent)
