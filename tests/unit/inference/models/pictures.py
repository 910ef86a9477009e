"""Pictures of any size and content, and the overlap of boxes."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from monolith.domain.detection import Xyxy

Picture = npt.NDArray[np.uint8]

EXTREME_SIZES: Final = [(1, 1), (1, 700), (900, 2), (33, 31), (2160, 4096)]
"""Height and width."""


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """Up to 300 × 300: noise, gradients or a plain colour, of some contrast."""
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    return make_picture(
        height, width, draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(["noise", "ramp", "plain"]))
    )


def make_picture(height: int, width: int, seed: int, kind: str = "noise") -> Picture:
    """The same picture for the same arguments."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "plain":
        return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def iou(one: Xyxy, other: Xyxy) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / (area(one) + area(other) - common)


def area(box: Xyxy) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def lies_inside(box: Xyxy, picture: Picture) -> bool:
    """Whether a box has an area and no part of it is outside."""
    height, width = map(int, picture.shape[:2])
    return 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
