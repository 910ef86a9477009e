from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from monolith.domain.detection import FaceDetection, ObjectDetection
from monolith.domain.events import AnalysedFrame
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.analytics_files import (
    STORED_SCHEMA,
    TableBuilder,
    code_of_frame,
    edition_of,
    emotion_of_code,
    file_of,
    group_file_of,
    label_of_code,
    write_table,
)
from tests.unit.readmodels.story import COLORS, FACE, OBJECTS, PALETTE, RUN, VIDEO


def frame(number: int, *found: object, timestamp: float | None = None) -> AnalysedFrame:
    time = number / 25 if timestamp is None else timestamp
    return AnalysedFrame(
        frame_number=number, timestamp=time, detections=found, started_at=7.5, seconds=0.25  # type: ignore[arg-type]
    )  # fmt: skip


def car(confidence: float, label: str = "car") -> ObjectDetection:
    return ObjectDetection(class_id=2, class_name=label, confidence=confidence, xyxy=(1.004, 2.0, 11.0, 22.0))


def table(**frames: tuple[AnalysedFrame, ...]) -> pl.DataFrame:
    builder = TableBuilder(VIDEO, RUN, 3)
    for model, judged in frames.items():
        builder.add(model, judged)
    assert builder.rows == builder.table().height
    return builder.table()


def test_a_judged_frame_is_a_line_and_each_detection_is_one() -> None:
    judged, found = table(objects_detection=(frame(5, car(0.39996)),)).to_dicts()
    assert (judged["entry"], judged["code"]) == (0, code_of_frame(OBJECTS))
    assert (judged["started_at"], judged["seconds"], judged["label"]) == (7.5, 0.25, None)
    assert found == dict.fromkeys(STORED_SCHEMA) | {
        "video_id": VIDEO, "run_id": RUN, "segment": 3, "frame_number": 5, "timestamp": 0.2, "exact_timestamp": 0.2,
        "model": "Object Detection", "entry": 1, "code": found["code"], "label": "car", "confidence": 0.4,
        "score": 0.39996, "rank": 1, "x": 1.0, "y": 2.0, "width": 10.0, "height": 20.0,
    }  # fmt: skip


def test_what_is_rounded_for_users_is_kept_exact_for_filters() -> None:
    line = table(objects_detection=(frame(1, timestamp=1 / 3),)).row(0, named=True)
    assert (line["timestamp"], line["exact_timestamp"]) == (0.333333, 1 / 3)


def test_lines_are_in_the_order_of_results_however_they_come() -> None:
    lines = table(
        objects_detection=(frame(2, car(0.5)), frame(1)),
        color_detection=(frame(1, *PALETTE),),
        emotions_detection=(frame(1, FACE),),
    )
    order = [(line["frame_number"], line["model"], line["entry"]) for line in lines.to_dicts()]
    colors, faces, objects = "Color Palette Detection", "Joy Detection", "Object Detection"
    assert order == [
        (1, colors, 0), (1, colors, 1), (1, colors, 2), (1, colors, 3), (1, faces, 0), (1, faces, 1),
        (1, objects, 0), (2, objects, 0), (2, objects, 1),
    ]  # fmt: skip


def test_the_greatest_rank_above_a_threshold_is_how_many_there_are() -> None:
    found = (car(0.5), car(0.9), car(0.95, "person"), car(0.7), car(0.5))
    lines = table(objects_detection=(frame(1, *found),)).filter(pl.col("label") == "car")
    for threshold in (0.0, 0.5, 0.6, 0.8, 0.9):
        left = lines.filter(pl.col("score") >= threshold)
        assert left["rank"].max() == left.height


def test_faces_are_ranked_as_faces_whatever_their_emotion() -> None:
    sad = FaceDetection(
        face_id=2,
        confidence=0.99,
        xyxy=(0.0, 0.0, 1.0, 1.0),
        emotion="sad",
        emotion_probability=0.5,
        emotions=(),
    )
    ranks = table(emotions_detection=(frame(1, FACE, sad),)).filter(pl.col("entry") > 0)["rank"]
    assert ranks.to_list() == [2, 1]


def test_a_result_that_comes_again_counts_once() -> None:
    builder = TableBuilder(VIDEO, RUN, 0)
    builder.add(OBJECTS, (frame(1, car(0.5)),))
    builder.add(OBJECTS, (frame(1, car(0.6), car(0.7)), frame(2)))
    builder.add(COLORS, (frame(1),))
    assert builder.table().group_by("frame_number").len().sort("frame_number").rows() == [(1, 3), (2, 1)]


def test_many_lines_are_packed_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_files._PIECE", 3)
    builder, whole = TableBuilder(VIDEO, RUN, 0), TableBuilder(VIDEO, RUN, 0)
    frames = [frame(number, car(0.5)) for number in (4, 2, 3, 1)]
    for one in frames:
        builder.add(OBJECTS, (one,))
    whole.add(OBJECTS, frames)
    assert builder.table().equals(whole.table())


def test_a_segment_without_results_is_an_empty_table() -> None:
    empty = TableBuilder(VIDEO, RUN, 0).table()
    assert (empty.height, empty.schema) == (0, pl.Schema(STORED_SCHEMA))


def test_codes_name_what_they_stand_for() -> None:
    lines = table(
        objects_detection=(frame(1, *(car(0.5, label) for label in COCO_LABELS)),),
        emotions_detection=(frame(1, FACE),),
        color_detection=(frame(1, *PALETTE),),
    ).filter(pl.col("entry") > 0)
    for line in lines.to_dicts():
        face = line["emotion"] is not None
        assert label_of_code(line["code"]) == (None if face else line["label"])
        assert emotion_of_code(line["code"]) == line["emotion"]
    assert lines.filter(pl.col("color").is_not_null())["rgb"].to_list() == [0x102030, 0x405060, 0x708090]


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tuple\.index"):
        table(objects_detection=(frame(1, car(0.5, "unicorn")),))


def test_names_of_files_tell_editions() -> None:
    assert file_of(7) == "000007.parquet"
    assert [group_file_of(0, 63), group_file_of(1, 63, 2)] == [
        "group-000000-000063.parquet",
        "group-000001-000063.2.parquet",
    ]
    assert [edition_of(group_file_of(0, 63)), edition_of(group_file_of(1, 63, 2))] == [0, 2]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.parquet"
    write_table(path, table(emotions_detection=(frame(1, FACE),)))
    before = path.read_bytes()

    def fails(descriptor: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="no room"):
        write_table(path, table(emotions_detection=(frame(2, FACE),)))
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])
