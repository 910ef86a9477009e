"""Results as a table, one row for each detection, and as files: JSON, NDJSON, CSV, Parquet.

Columns: `video_id`, `frame_number` (from 1), `timestamp` (seconds), `model` (its name in results), `label` (an object's
COCO label, `face`, or null for colours), `confidence` (0–1, null for colours), `x`, `y`, `width`, `height` (pixels of
the stored frame), `face_id` (from 1 in its frame), `emotion`, `emotion_confidence` (0–1), `color` (`#rrggbb`), `share`
(of the picture, 0–1). What does not apply is null.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol, TypeAlias, get_args

import msgspec
import polars as pl

from monolith.domain.detection import EMOTIONS
from monolith.domain.models import INFERENCE_MODEL_NAMES
from monolith.inference.models.coco import COCO_LABELS

FACE: Final = "face"

Format: TypeAlias = Literal["json", "ndjson", "csv", "parquet"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

SCHEMA: Final[dict[str, pl.DataType]] = {
    "video_id": pl.String(),
    "frame_number": pl.UInt32(),
    "timestamp": pl.Float64(),
    "model": pl.Enum(list(INFERENCE_MODEL_NAMES.values())),
    "label": pl.Enum([*COCO_LABELS, FACE]),
    "confidence": pl.Float64(),
    "x": pl.Float64(),
    "y": pl.Float64(),
    "width": pl.Float64(),
    "height": pl.Float64(),
    "face_id": pl.UInt32(),
    "emotion": pl.Enum(list(EMOTIONS)),
    "emotion_confidence": pl.Float64(),
    "color": pl.String(),
    "share": pl.Float64(),
}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One of `inference_results`, of any model. Probabilities are 0–100, as the API gives them."""

    label: str | None = None
    probability: float | None = None
    coordinates: tuple[float, float, float, float] | None = None
    face_id: int | None = None
    emotion: str | None = None
    emotion_probability: float | None = None
    color: str | None = None
    share: float | None = None


class Row(msgspec.Struct, frozen=True):
    """One row of `/results`: what one model found in one frame."""

    video_id: str
    frame_number: int
    video_timestamp: float
    inference_model: str
    inference_results: list[Entry]


def detections_table(rows: Iterable[Row]) -> pl.DataFrame:
    """One line for each detection, in the order of `rows`, with the columns of `SCHEMA`."""
    lines = [_line(row, entry) for row in rows for entry in row.inference_results]
    return pl.DataFrame(lines, schema=SCHEMA, orient="row")


def _line(row: Row, entry: Entry) -> tuple[Any, ...]:
    x, y, width, height = entry.coordinates or (None, None, None, None)
    return (
        row.video_id,
        row.frame_number,
        row.video_timestamp,
        row.inference_model,
        FACE if entry.emotion is not None else entry.label,
        _fraction(entry.probability),
        x,
        y,
        width,
        height,
        entry.face_id,
        entry.emotion,
        _fraction(entry.emotion_probability),
        entry.color,
        entry.share,
    )


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)


class TableWriter(Protocol):
    """Takes a table piece by piece."""

    def write(self, table: pl.DataFrame) -> None: ...

    def finish(self) -> None: ...


class _Csv:
    """With a header, also when no line follows."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        pl.DataFrame(schema=SCHEMA).write_csv(file)

    def write(self, table: pl.DataFrame) -> None:
        table.write_csv(self._file, include_header=False)

    def finish(self) -> None:
        """A CSV file needs no end."""


class _Ndjson:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, table: pl.DataFrame) -> None:
        table.write_ndjson(self._file)

    def finish(self) -> None:
        """An NDJSON file needs no end."""


class _Json:
    """One array, a line for each element."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._separator = b"[\n"

    def write(self, table: pl.DataFrame) -> None:
        if table.height:
            self._file.write(
                self._separator + table.write_ndjson().encode().rstrip(b"\n").replace(b"\n", b",\n")
            )
            self._separator = b",\n"

    def finish(self) -> None:
        self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class _Parquet:
    """Pieces go to files of their own and are joined at the end, without holding them all in memory."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._pieces = 0
        self.write(pl.DataFrame(schema=SCHEMA))

    def write(self, table: pl.DataFrame) -> None:
        table.write_parquet(self._folder / f"{self._pieces:08d}.parquet")
        self._pieces += 1

    def finish(self) -> None:
        pl.scan_parquet(self._folder / "*.parquet").sink_parquet(self._file)


class Export:
    """A file in the making: `open`, `write`…, `commit`, `close`. It gets its name when everything is in it.

    Methods block (they are for threads) and raise OSError.
    """

    def __init__(self, path: Path, file_format: Format) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._format = file_format
        self._stack = contextlib.ExitStack()
        self._writer: TableWriter | None = None

    def open(self) -> None:
        if self._path.exists() and not self._path.is_file():
            raise OSError(errno.EINVAL, "it exists and is no regular file", str(self._path))
        with contextlib.ExitStack() as stack:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(self._part.open("wb"))
            stack.callback(self._part.unlink, missing_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._path.parent)))
            self._writer = _writer(self._format, file, folder)
            self._stack = stack.pop_all()

    def write(self, rows: Sequence[Row]) -> None:
        assert self._writer is not None
        self._writer.write(detections_table(rows))

    def commit(self) -> None:
        assert self._writer is not None
        self._writer.finish()
        self._part.replace(self._path)

    def close(self) -> None:
        """Removes what was not committed. Idempotent."""
        self._stack.close()


def _writer(file_format: Format, file: BinaryIO, folder: Path) -> TableWriter:
    match file_format:
        case "csv":
            return _Csv(file)
        case "ndjson":
            return _Ndjson(file)
        case "json":
            return _Json(file)
        case "parquet":
            return _Parquet(file, folder)


def format_of(path: Path) -> Format | None:
    """The format that a file's ending names."""
    ending = path.suffix.lower().removeprefix(".")
    ending = {"jsonl": "ndjson", "pq": "parquet"}.get(ending, ending)
    return next((known for known in FORMATS if known == ending), None)
