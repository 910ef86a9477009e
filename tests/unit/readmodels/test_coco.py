from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from monolith.domain.detection import EMOTIONS, Detection
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.coco import EMOTION_IDS, OBJECT_IDS, CocoWriter, categories
from monolith.readmodels.findings import Findings
from tests.unit.readmodels.story import CAR, COLORS, FACE, FACES, OBJECTS, PALETTE, UNSURE


def frame(number: int, *found: tuple[str, tuple[Detection, ...]]) -> Findings:
    return Findings(
        frame_number=number, timestamp=number / 25, pack="p", offset=0, length=1, width=640, height=272,
        found=found,
    )  # fmt: skip


FRAMES = [
    frame(1, (OBJECTS, (CAR, UNSURE)), (FACES, (FACE,)), (COLORS, PALETTE)),
    frame(2, (OBJECTS, ())),
    frame(3, (OBJECTS, (CAR,))),
]


def document(frames: list[Findings], page: int) -> bytes:
    writer = CocoWriter({"description": "clip"}, "http://api/analysis/v/frame")
    pages = [frames[i : i + page] for i in range(0, len(frames), page)]
    annotations = [writer.annotations(some) for some in pages]
    images = [writer.images(some) for some in pages]
    return b"".join([writer.head(), *annotations, writer.middle(), *images, writer.tail()])


@pytest.mark.parametrize("page", [1, 2, 10])
def test_pages_join_to_one_document(page: int) -> None:
    read: dict[str, Any] = json.loads(document(FRAMES, page))
    assert [image["id"] for image in read["images"]] == [1, 2, 3]
    assert [(one["id"], one["image_id"], one["category_id"]) for one in read["annotations"]] == [
        (1, 1, 3), (2, 1, 1), (3, 1, 104), (4, 3, 3),
    ]  # fmt: skip
    assert read["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 3, "bbox": [10.0, 20.0, 100.5, 50.25], "area": 5050.12,
        "iscrowd": 0, "segmentation": [], "score": 0.87311,
    }  # fmt: skip
    face = read["annotations"][2]
    assert (face["score"], face["emotion_score"], face["face_id"]) == (0.912, 0.75, 1)
    assert read["images"][0] == {
        "id": 1, "width": 640, "height": 272, "file_name": "00000001.jpg", "timestamp": 0.04,
        "coco_url": "http://api/analysis/v/frame/1?annotated=false",
        "palette": [
            {"color": "#102030", "share": 0.5}, {"color": "#405060", "share": 0.3},
            {"color": "#708090", "share": 0.2},
        ],
    }  # fmt: skip


def test_nothing_found_is_a_whole_document() -> None:
    read = json.loads(document([], 1))
    assert (read["images"], read["annotations"]) == ([], [])
    assert len(read["categories"]) == len(COCO_LABELS) + len(EMOTIONS)


def test_objects_have_the_ids_of_coco() -> None:
    """Some that its own annotation files have."""
    known = {
        "person": 1, "bicycle": 2, "fire hydrant": 11, "stop sign": 13, "giraffe": 25, "backpack": 27,
        "umbrella": 28, "handbag": 31, "wine glass": 46, "bed": 65, "dining table": 67, "toilet": 70, "tv": 72,
        "refrigerator": 82, "book": 84, "toothbrush": 90,
    }  # fmt: skip
    assert known.items() <= OBJECT_IDS.items()
    groups = {category.name: category.supercategory for category in categories()}
    assert (groups["truck"], groups["dog"], groups["pizza"], groups["tv"]) == (
        "vehicle", "animal", "food", "electronic",
    )  # fmt: skip
    assert {groups[emotion] for emotion in EMOTIONS} == {"face"}
    assert not set(EMOTION_IDS.values()) & set(OBJECT_IDS.values())


def test_the_tools_of_coco_take_it(tmp_path: Path) -> None:
    """Loaded, asked, and evaluated against itself: every box is found again."""
    path = tmp_path / "coco.json"
    path.write_bytes(document(FRAMES, 2))
    truth = COCO(str(path))
    assert truth.getImgIds(catIds=truth.getCatIds(catNms=["car"])) == [1, 3]
    found = [
        {key: one[key] for key in ("image_id", "category_id", "bbox", "score")}
        for one in truth.loadAnns(truth.getAnnIds())
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert np.isfinite(evaluation.stats).all()
