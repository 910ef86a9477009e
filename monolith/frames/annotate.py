"""Draws what models found into a copy of the picture."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from monolith.domain.detection import ColorShare, Detection, FaceDetection, ObjectDetection, Xyxy

Picture = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
FACE_COLOR: Final[Rgb] = (255, 214, 10)


def annotate(rgb: Picture, detections: Iterable[Detection]) -> Picture:
    """A copy of `rgb` (height × width × 3) with boxes, labels and the palette drawn in.

    Lines and letters grow with the picture; labels stay inside it. Surer boxes are drawn over less sure ones.
    """
    found = list(detections)
    picture = np.ascontiguousarray(rgb).copy()
    pen = _Pen(picture)
    boxes = [entry for entry in found if not isinstance(entry, ColorShare)]
    for entry in sorted(boxes, key=lambda one: one.confidence):
        pen.box(entry.xyxy, label_of(entry), color_of(entry))
    pen.palette([entry for entry in found if isinstance(entry, ColorShare) and entry.share > 0])
    return picture


def label_of(detection: ObjectDetection | FaceDetection) -> str:
    """Class or emotion, with its probability in percent."""
    if isinstance(detection, FaceDetection):
        return f"{detection.emotion} {detection.emotion_probability:.0%}"
    return f"{detection.class_name} {detection.confidence:.0%}"


def color_of(detection: ObjectDetection | FaceDetection) -> Rgb:
    """The colour of a class, always the same one; faces have their own."""
    if isinstance(detection, FaceDetection):
        return FACE_COLOR
    hue = zlib.crc32(detection.class_name.encode()) * 0.618033988749895 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Pen:
    """Lines and letters in a size that suits the picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._height, self._width = picture.shape[:2]
        side = min(self._height, self._width * 9 // 16 + 1)
        self._line = max(1, round(side / 270))
        self._scale = min(max(side / 900, 0.35), 2.0)
        self._weight = max(1, round(self._scale * 1.6))

    def box(self, xyxy: Xyxy, label: str, color: Rgb) -> None:
        left, top, right, bottom = (round(value) for value in xyxy)
        right, bottom = min(right, self._width - 1), min(bottom, self._height - 1)
        cv2.rectangle(self._picture, (left, top), (right, bottom), color, self._line)
        self._label(left, top, label, color)

    def palette(self, shares: list[ColorShare]) -> None:
        """One swatch under the other in the top right corner, each with its colour and share."""
        top = 0
        for entry in shares:
            color = int(entry.color[1:3], 16), int(entry.color[3:5], 16), int(entry.color[5:7], 16)
            text = f"{entry.color} {entry.share:.0%}"
            width, height, _ = self._measure(text)
            self._label(self._width - width, top + height, text, color)
            top += height

    def _measure(self, text: str) -> tuple[int, int, int]:
        """Width and height of a label with its margins, and the margin."""
        (width, height), baseline = cv2.getTextSize(text, FONT, self._scale, self._weight)
        margin = max(1, round(height * 0.3))
        return width + 2 * margin, height + baseline + margin, margin

    def _label(self, left: int, bottom: int, text: str, color: Rgb) -> None:
        """A filled label that ends at `bottom`, moved as far as needed to lie in the picture."""
        width, height, margin = self._measure(text)
        left = max(min(left, self._width - width), 0)
        top = max(min(bottom - height, self._height - height), 0)
        cv2.rectangle(self._picture, (left, top), (left + width - 1, top + height - 1), color, cv2.FILLED)
        _, baseline = cv2.getTextSize(text, FONT, self._scale, self._weight)
        foot = (left + margin, top + height - baseline)
        cv2.putText(self._picture, text, foot, FONT, self._scale, _ink(color), self._weight, cv2.LINE_AA)


def _ink(background: Rgb) -> Rgb:
    """Black on light colours, white on dark ones (luma of ITU-R BT.601)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
