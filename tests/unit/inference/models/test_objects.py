"""NanoDet on real pictures, its decoding against a slow one, and what holds for any picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from monolith.domain.detection import ObjectDetection, Xyxy
from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models.catalogue import CATALOGUE, load
from monolith.inference.models.coco import COCO_LABELS
from monolith.inference.models.objects import (
    DETECTIONS,
    ObjectsModel,
    candidates,
    cell_centres,
    decode_boxes,
    input_size,
)
from tests.media import read_frame, read_picture
from tests.unit.inference.models.pictures import (
    EXTREME_SIZES,
    Picture,
    iou,
    lies_inside,
    make_picture,
    pictures,
)

FLOOR = CATALOGUE["objects_detection"].floor


def best_match(found: tuple[ObjectDetection, ...], label: str, box: Xyxy) -> ObjectDetection:
    """The surest detection of `label` that overlaps `box` well."""
    return next(one for one in found if one.class_name == label and iou(one.xyxy, box) > 0.7)


def test_a_street_with_a_bus_and_four_people(objects: ObjectsModel) -> None:
    found = objects.detect(read_picture("bus.jpg"))
    assert best_match(found, "bus", (17, 230, 802, 768)).confidence > 0.7
    assert best_match(found, "person", (50, 399, 245, 903)).confidence > 0.7
    for person in ((222.0, 406.0, 345.0, 858.0), (669.0, 392.0, 810.0, 880.0)):
        assert best_match(found, "person", person).confidence > 0.4
    half_outside = best_match(found, "person", (0, 550, 63, 873))
    assert half_outside.confidence > 0.3 and half_outside.xyxy[0] < 3
    assert {one.class_name for one in found if one.confidence >= 0.4} == {"bus", "person"}


def test_two_people_at_a_pitch(objects: ObjectsModel) -> None:
    found = objects.detect(read_picture("zidane.jpg"))
    for person in ((123.0, 197.0, 1111.0, 711.0), (747.0, 41.0, 1142.0, 712.0)):
        assert best_match(found, "person", person).confidence > 0.6
    assert {one.class_name for one in found if one.confidence >= 0.4} == {"person"}


def test_parked_cars_in_a_clip(objects: ObjectsModel) -> None:
    found = objects.detect(read_frame("bikes.mp4", 150))
    assert best_match(found, "car", (517, 104, 612, 166)).confidence > 0.5
    assert sum(one.class_name == "car" for one in found if one.confidence >= 0.4) >= 3


def test_a_small_clip_is_enlarged(objects: ObjectsModel) -> None:
    found = objects.detect(read_frame("carphone_pristine.mp4", 60))
    assert found[0].class_name == "person" and found[0].confidence > 0.7


def assert_sound(found: tuple[ObjectDetection, ...], picture: Picture) -> None:
    assert len(found) <= DETECTIONS
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    for one in found:
        assert lies_inside(one.xyxy, picture)
        assert FLOOR <= one.confidence <= 1 and round(one.confidence, 4) == one.confidence
        assert COCO_LABELS[one.class_id] == one.class_name
        assert all(round(value, 1) == value for value in one.xyxy)


@given(picture=pictures())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_picture_gets_sound_boxes(objects: ObjectsModel, picture: Picture) -> None:
    assert_sound(objects.detect(picture), picture)


@pytest.mark.parametrize("size", EXTREME_SIZES)
def test_any_size_gets_sound_boxes(objects: ObjectsModel, size: tuple[int, int]) -> None:
    picture = make_picture(*size, seed=1)
    assert_sound(objects.detect(picture), picture)


def test_the_same_pixels_give_the_same_answer_whatever_came_between(objects: ObjectsModel) -> None:
    picture = read_picture("bus.jpg")
    first = objects.detect(picture)
    objects.detect(make_picture(100, 200, seed=3))
    assert objects.detect(picture.copy()) == first


def test_a_view_of_a_bigger_picture_is_read_as_it_looks(objects: ObjectsModel) -> None:
    picture = read_picture("bus.jpg")
    assert objects.detect(picture[200:, 10:]) == objects.detect(picture[200:, 10:].copy())


def test_bfloat16_agrees_with_float32(backend: OpenVinoBackend, objects: ObjectsModel) -> None:
    fast = OpenVinoBackend(threads=2, precision="auto")
    model = load("objects_detection", fast, infer_from="stored")
    if model.identity.precision != "bf16":
        pytest.skip("this processor does not compute in bfloat16")
    picture = read_picture("bus.jpg")
    found = tuple(one for one in model.detect(picture) if isinstance(one, ObjectDetection))
    for one in objects.detect(picture)[:3]:
        assert abs(best_match(found, one.class_name, one.xyxy).confidence - one.confidence) < 0.05


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((416, 416), (416, 416)),
        ((720, 1280), (320, 544)),
        ((1280, 720), (544, 320)),
        ((272, 640), (224, 544)),
    ],
)
def test_the_input_keeps_the_pictures_shape(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(*picture) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1), (2160, 4096), (97, 101)])
def test_the_input_is_bounded_and_whole_cells(size: tuple[int, int]) -> None:
    height, width = input_size(*size)
    assert height % 32 == width % 32 == 0
    assert min(height, width) >= 32 and max(height, width) <= 544


def test_cells_go_row_by_row_through_the_three_grids() -> None:
    cells = cell_centres(64, 96)
    assert len(cells) == 8 * 12 + 4 * 6 + 2 * 3
    assert cells[0].tolist() == [4, 4, 8]
    assert cells[13].tolist() == [12, 12, 8]
    assert cells[-1].tolist() == [80, 48, 32]


def test_boxes_are_expected_distances() -> None:
    random = np.random.default_rng(5)
    bins = random.normal(0, 3, (20, 44)).astype(np.float32)
    cells = cell_centres(64, 96)[30:50]
    for row, cell, box in zip(bins, cells, decode_boxes(bins, cells), strict=True):
        assert box == pytest.approx(slow_box(row.tolist(), *cell.tolist()), abs=1e-3)


def slow_box(row: list[float], x: float, y: float, stride: float) -> tuple[float, ...]:
    """Sum of k · softmax(logits)[k], in strides, to each side."""
    sides = []
    for side in range(4):
        weights = [math.exp(logit) for logit in row[side * 11 : side * 11 + 11]]
        sides.append(stride * sum(k * weight for k, weight in enumerate(weights)) / sum(weights))
    return x - sides[0], y - sides[1], x + sides[2], y + sides[3]


def test_candidates_are_the_entries_that_reach_the_floor() -> None:
    scores = np.array([[0.1, 0.05], [0.3, 0.2]], np.float32)
    rows, classes, found = candidates(scores, 0.1)
    assert list(zip(rows.tolist(), classes.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1)]
    assert found.tolist() == scores[rows, classes].tolist()


def test_only_the_best_candidates_are_kept() -> None:
    scores = np.linspace(0.2, 0.9, 4000, dtype=np.float32).reshape(50, 80)
    rows, classes, found = candidates(scores, 0.1)
    assert len(found) == 1000
    assert (rows * 80 + classes).tolist() == list(range(3000, 4000))
