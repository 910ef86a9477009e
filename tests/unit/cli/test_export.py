from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from monolith.readmodels.export import FORMATS, SCHEMA, Export, Format, Row, detections_table, format_of
from tests.unit.cli.rows import VIDEO_ID, colors, faces, objects

PAGES = [
    [objects(10, ("car", 57.25), ("person", 40.0)), faces(10, ("happy", 81.5))],
    [objects(20), colors(20, ("#10ff00", 0.75))],
]


def _write(path: Path, file_format: Format, pages: list[list[Row]]) -> None:
    export = Export(path, file_format)
    export.open()
    try:
        for page in pages:
            export.write(page)
        export.commit()
    finally:
        export.close()


def _read(path: Path, file_format: Format) -> pl.DataFrame:
    schema = {name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in SCHEMA.items()}
    readers: dict[Format, Callable[[], pl.DataFrame]] = {
        "csv": lambda: pl.read_csv(path, schema=schema),
        "ndjson": lambda: pl.read_ndjson(path, schema=schema),
        "json": lambda: pl.DataFrame(json.loads(path.read_bytes()), schema=schema),
        "parquet": lambda: pl.read_parquet(path),
    }
    return readers[file_format]().cast(pl.Schema(SCHEMA))


def test_a_detection_is_a_line_and_what_does_not_apply_is_null() -> None:
    car, person, face, color = detections_table(PAGES[0] + PAGES[1]).to_dicts()
    assert car == dict.fromkeys(SCHEMA) | {
        "video_id": VIDEO_ID, "frame_number": 10, "timestamp": 0.4, "model": "Object Detection", "label": "car",
        "confidence": 0.5725, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.5,
    }  # fmt: skip
    assert (person["label"], person["confidence"]) == ("person", 0.4)
    assert (face["label"], face["face_id"], face["confidence"]) == ("face", 1, 0.9)
    assert (face["emotion"], face["emotion_confidence"]) == ("happy", 0.815)
    assert (color["frame_number"], color["color"], color["share"]) == (20, "#10ff00", 0.75)
    assert color["label"] is color["confidence"] is color["x"] is None


def test_labels_are_enums() -> None:
    table = detections_table(PAGES[0])
    assert isinstance(table.schema["label"], pl.Enum)
    assert table.filter(pl.col("label") == "car").height == 1


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_holds_the_same_table(file_format: Format, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"found.{file_format}"
    _write(path, file_format, PAGES)
    assert _read(path, file_format).equals(detections_table(PAGES[0] + PAGES[1]))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("file_format", FORMATS)
def test_nothing_found_is_an_empty_table(file_format: Format, tmp_path: Path) -> None:
    path = tmp_path / "found"
    _write(path, file_format, [[objects(10)]])
    if file_format == "json":
        assert json.loads(path.read_bytes()) == []
    elif file_format == "ndjson":
        assert path.read_bytes() == b""
    else:
        found = _read(path, file_format)
        assert found.height == 0
        assert found.columns == list(SCHEMA)


def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    path.write_text("before")
    export = Export(path, "csv")
    export.open()
    export.write(PAGES[0])
    export.close()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", "json"), ("a.JSONL", "ndjson"), ("a.ndjson", "ndjson"), ("a.csv", "csv"), ("a.pq", "parquet"),
     ("a.parquet", "parquet"), ("a.txt", None), ("a", None)],
)  # fmt: skip
def test_the_ending_names_the_format(name: str, expected: str | None) -> None:
    assert format_of(Path(name)) == expected
