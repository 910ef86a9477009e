"""Pictures of any size on a canvas of one size: scaled to fit, the rest black."""

from __future__ import annotations

from typing import Final

import cv2
import msgspec
import numpy as np

from monolith.domain.detection import ColorShare, Detection
from monolith.frames.jpeg import Picture

_CUT: Final = 1
"""Pixels that a side may lose before a picture is scaled: an odd side on an even canvas."""


class Placement(msgspec.Struct, frozen=True):
    """Where a picture of `width` × `height` lies on the canvas, from `left`, `top` on (pixels), enlarged by `scale`."""

    left: int
    top: int
    width: int
    height: int
    scale: float


def even_canvas(width: int, height: int) -> tuple[int, int]:
    """The size with even sides, as video with colour at half resolution needs them: an odd one loses a pixel."""
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def placed(width: int, height: int, canvas: tuple[int, int]) -> Placement:
    """As large as fits with the same shape, in the middle. One that is a pixel too large keeps its scale."""
    wide, high = canvas
    if 0 <= width - wide <= _CUT and 0 <= height - high <= _CUT:
        return Placement(0, 0, wide, high, 1.0)
    scale = min(wide / width, high / height)
    fitted = max(1, min(wide, round(width * scale))), max(1, min(high, round(height * scale)))
    return Placement((wide - fitted[0]) // 2, (high - fitted[1]) // 2, *fitted, scale)


def scaled_picture(picture: Picture, place: Placement) -> Picture:
    """The picture in the size of its place."""
    if place.scale == 1.0:
        return picture[: place.height, : place.width]
    method = cv2.INTER_AREA if place.scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (place.width, place.height), interpolation=method), np.uint8)


def scaled_detection(detection: Detection, scale: float) -> Detection:
    """The detection with its box in pixels of the scaled picture."""
    if isinstance(detection, ColorShare) or scale == 1.0:
        return detection
    left, top, right, bottom = detection.xyxy
    box = (left * scale, top * scale, right * scale, bottom * scale)
    return msgspec.structs.replace(detection, xyxy=box)


def on_canvas(picture: Picture, place: Placement, canvas: tuple[int, int]) -> Picture:
    """A picture of the canvas' size (width, height), C-contiguous."""
    wide, high = canvas
    if picture.shape[:2] == (high, wide):
        return np.ascontiguousarray(picture)
    whole: Picture = np.zeros((high, wide, 3), np.uint8)
    whole[place.top : place.top + place.height, place.left : place.left + place.width] = picture
    return whole
