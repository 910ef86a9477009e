"""What the detectors share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from monolith.inference.backends.base import FloatArray
from monolith.inference.models.base import Letterbox, scale, scale_boxes, solid, suppress
from tests.unit.inference.models.pictures import iou, make_picture


def floats(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, np.float32)


def test_a_small_picture_goes_into_the_corner_as_it_is() -> None:
    picture = make_picture(40, 70, seed=1)
    pixels = Letterbox(640).fit(picture)
    assert pixels.shape == (1, 64, 96, 3)
    assert (pixels[0, :40, :70] == picture).all() and pixels[0, 40:].max() == pixels[0, :, 70:].max() == 0


def test_a_big_picture_is_scaled_down() -> None:
    pixels = Letterbox(640).fit(np.full((720, 1280, 3), 9, np.uint8))
    assert pixels.shape == (1, 384, 640, 3)
    assert (pixels[0, :360] == 9).all() and (pixels[0, 360:] == 0).all()


def test_the_next_picture_leaves_no_trace_of_the_last() -> None:
    letterbox = Letterbox(640)
    letterbox.fit(np.full((64, 64, 3), 255, np.uint8))
    small = letterbox.fit(np.full((20, 50, 3), 7, np.uint8))
    assert small.shape == (1, 32, 64, 3) and small.sum() == 20 * 50 * 3 * 7


def test_boxes_go_back_to_the_picture_and_are_clipped() -> None:
    letterbox = Letterbox(640)
    letterbox.fit(np.zeros((720, 1280, 3), np.uint8))
    boxes = letterbox.back(floats([[10, 20, 30, 40], [-5, -5, 700, 400]]))
    assert boxes.tolist() == [[20, 40, 60, 80], [0, 0, 1280, 720]]


def test_boxes_scale_by_axis() -> None:
    assert scale_boxes(floats([[1, 2, 3, 4]]), (10, 10), (100, 20)).tolist() == [[2, 20, 6, 40]]


def test_scaling_to_the_same_size_copies_nothing() -> None:
    picture = make_picture(8, 9, seed=1)
    assert scale(picture, 8, 9) is picture
    assert scale(picture, 4, 3).shape == (4, 3, 3)


def test_boxes_without_area_are_not_solid() -> None:
    boxes = floats([[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 2.01, 5.0], [3.0, 3.0, 8.0, 3.0], [5.0, 5.0, 4.0, 4.0]])
    assert solid(boxes).tolist() == [True, False, False, False]


def slow_suppress(
    boxes: list[list[float]], scores: list[float], classes: list[int], overlap: float
) -> list[int]:
    """Greedy suppression by the book."""
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda row: -scores[row]):
        rivals = (other for other in kept if classes[other] == classes[row])
        if all(iou(tuple(boxes[row]), tuple(boxes[other])) <= overlap for other in rivals):  # type: ignore[arg-type]
            kept.append(row)
    return kept


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30), st.integers(0, 2)
        ),
        max_size=40,
    ),
    seed=st.integers(0, 1000),
)
def test_suppression_is_greedy_by_class(rows: list[tuple[int, int, int, int, int]], seed: int) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32).reshape(-1, 4)
    scores = floats(np.random.default_rng(seed).permutation(len(rows)) / 50 + 0.1)
    classes = np.array([row[4] for row in rows], np.intp)
    kept = suppress(boxes, scores, classes, overlap=0.55, limit=1000)
    assert kept.tolist() == slow_suppress(boxes.tolist(), scores.tolist(), classes.tolist(), 0.55)


def test_suppression_keeps_the_best_up_to_the_limit() -> None:
    boxes = floats([[n * 10, 0, n * 10 + 5, 5] for n in range(6)])
    scores = floats([0.2, 0.9, 0.5, 0.9, 0.1, 0.7])
    kept = suppress(boxes, scores, np.zeros(6, np.intp), overlap=0.5, limit=3)
    assert kept.tolist() == [1, 3, 5]


def test_nothing_suppressed_of_nothing() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert suppress(empty, np.zeros(0, np.float32), np.zeros(0, np.intp), overlap=0.5, limit=3).tolist() == []
    assert scale_boxes(empty, (1, 1), (2, 2)).shape == (0, 4)
    assert solid(empty).size == 0
