from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.detection import ColorShare, ObjectDetection
from monolith.frames.letterbox import (
    Placement,
    even_canvas,
    on_canvas,
    placed,
    scaled_detection,
    scaled_picture,
)

SIDES = st.integers(1, 400)
EVEN = st.integers(1, 200).map(lambda n: n * 2)


@pytest.mark.parametrize(
    ("size", "canvas"), [((640, 272), (640, 272)), ((63, 47), (62, 46)), ((1, 1), (2, 2)), ((3, 1), (2, 2))]
)
def test_sides_become_even(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert even_canvas(*size) == canvas


def test_an_odd_side_loses_a_line_and_keeps_its_scale() -> None:
    assert placed(63, 47, (62, 46)) == Placement(0, 0, 62, 46, 1.0)


def test_a_tall_picture_stands_in_the_middle() -> None:
    place = placed(50, 100, (200, 100))
    assert place == Placement(75, 0, 50, 100, 1.0)
    whole = on_canvas(np.full((100, 50, 3), 200, np.uint8), place, (200, 100))
    assert whole.shape == (100, 200, 3)
    assert (whole[:, 75:125] == 200).all()
    assert not whole[:, :75].any()
    assert not whole[:, 125:].any()


@given(SIDES, SIDES, EVEN, EVEN)
def test_everything_fits_its_canvas(width: int, height: int, wide: int, high: int) -> None:
    place = placed(width, height, (wide, high))
    picture = np.full((height, width, 3), 9, np.uint8)
    whole = on_canvas(scaled_picture(picture, place), place, (wide, high))
    assert whole.shape == (high, wide, 3)
    assert place.left >= 0 and place.left + place.width <= wide
    assert place.top >= 0 and place.top + place.height <= high
    assert abs(place.width - wide) <= 1 or abs(place.height - high) <= 1
    assert int((whole == 9).all(axis=2).sum()) == place.width * place.height


def test_boxes_grow_with_the_picture_and_colours_do_not() -> None:
    box = ObjectDetection(class_id=2, class_name="car", confidence=0.5, xyxy=(1.0, 2.0, 3.0, 4.0))
    color = ColorShare(color="#102030", share=0.5)
    assert scaled_detection(box, 2.0) == ObjectDetection(
        class_id=2, class_name="car", confidence=0.5, xyxy=(2.0, 4.0, 6.0, 8.0)
    )
    assert scaled_detection(color, 2.0) is color
