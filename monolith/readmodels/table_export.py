"""Detections as files for other programs: CSV, Parquet, Arrow. A line is a detection; the columns are those of
`monolith.readmodels.export`, with `run_id` behind `video_id`."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import polars as pl

from monolith.readmodels.detection_filter import shown_detections
from monolith.readmodels.detections import DetectionTables
from monolith.readmodels.export import SCHEMA

EXPORT_SCHEMA: Final[dict[str, pl.DataType]] = {"video_id": pl.String(), "run_id": pl.String(), **SCHEMA}

_LINES: Final = 65_536
"""Lines that are written at a time."""
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_END: Final = _CONTINUATION + bytes(4)


class ExportFormat(msgspec.Struct, frozen=True):
    """A kind of file. `ending`: of its name, with the dot; `write` puts a table of `EXPORT_SCHEMA` into a file, in
    order, without holding all of it; it blocks."""

    media_type: str
    ending: str
    write: Callable[[pl.LazyFrame, BinaryIO], None]


class ExportedFile(msgspec.Struct, frozen=True):
    """`file`: nameless, at its start; gone when it is closed. `size` in bytes."""

    file: BinaryIO
    size: int
    video_name: str


def export(tables: DetectionTables, kind: ExportFormat, folder: Path | None) -> ExportedFile:
    """The detections that `tables` shows, in a file in `folder`. Blocks; raises OSError."""
    lines = shown_detections(tables).select(list(EXPORT_SCHEMA))
    file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- whom it is given to closes it
    try:
        kind.write(lines, file)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return ExportedFile(file, size, tables.video.video_name)


def _write_csv(lines: pl.LazyFrame, file: BinaryIO) -> None:
    lines.sink_csv(file, engine="streaming")


def _write_parquet(lines: pl.LazyFrame, file: BinaryIO) -> None:
    lines.sink_parquet(file, row_group_size=_LINES, engine="streaming")


def _write_arrow(lines: pl.LazyFrame, file: BinaryIO) -> None:
    """One Arrow IPC stream. Polars writes a stream for each batch: of the later ones the schema is left out, and of
    all the mark of their end. https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format"""
    begun = False

    def put(batch: pl.DataFrame) -> None:
        nonlocal begun
        buffer = io.BytesIO()
        batch.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        stream = buffer.getbuffer()
        file.write(stream[_length_of_message(stream) if begun else 0 : -len(_END)])
        begun = True

    lines.sink_batches(put, chunk_size=_LINES, engine="streaming")
    if not begun:
        put(pl.DataFrame(schema=EXPORT_SCHEMA))
    file.write(_END)


def _length_of_message(stream: memoryview) -> int:
    """Of the first one, which has no body: the schema."""
    assert bytes(stream[:4]) == _CONTINUATION and bytes(stream[-len(_END) :]) == _END
    length: int = struct.unpack_from("<i", stream, len(_CONTINUATION))[0]
    return len(_CONTINUATION) + 4 + length


EXPORT_FORMATS: Final[dict[str, ExportFormat]] = {
    "csv": ExportFormat("text/csv", ".csv", _write_csv),
    "parquet": ExportFormat("application/vnd.apache.parquet", ".parquet", _write_parquet),
    "arrow": ExportFormat("application/vnd.apache.arrow.stream", ".arrows", _write_arrow),
}
"""Name → kind of file."""
