"""The port that the worker sees of a model, and what the detectors share: fitting a picture into a network's
input, and turning rows of boxes into clean ones."""

from __future__ import annotations

from typing import Any, Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt

from monolith.domain.detection import Detection
from monolith.domain.models import ModelIdentity
from monolith.inference.backends.base import FloatArray

Picture = npt.NDArray[np.uint8]
"""Height × width × 3, RGB."""

GRID = 32
"""Detectors take sides that are multiples of this."""


class Model(Protocol):
    """One of the models, ready. Same pixels, same precision, same answer. Not for several threads at once."""

    identity: ModelIdentity

    def detect(self, frame: Picture) -> tuple[Detection, ...]:
        """What is in a picture of any size from 1 × 1, best first; boxes lie inside it."""
        ...

    def warm_up(self) -> None:
        """Run once on an empty picture, so that the first real one is not slow."""
        ...


class Letterbox:
    """Puts pictures, scaled down to `side` pixels at most and black beyond their right and lower edge, into a
    float32 input 1 × H × W × 3 with H and W multiples of 32. The input is overwritten by the next picture."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._source = (0, 0)
        self._scaled = (0, 0)
        self._input: FloatArray = np.zeros((1, 0, 0, 3), np.float32)

    def fit(self, frame: Picture) -> FloatArray:
        """The network's input for `frame`."""
        height, width = frame.shape[:2]
        if (height, width) != self._source:
            self._prepare(height, width)
        rows, columns = self._scaled
        self._input[0, :rows, :columns] = scale(frame, rows, columns)
        return self._input

    def back(self, boxes: FloatArray) -> FloatArray:
        """Boxes (n × 4, xyxy) in pixels of the input → pixels of the picture last fitted, clipped to it."""
        return scale_boxes(boxes, self._scaled, self._source)

    def _prepare(self, height: int, width: int) -> None:
        factor = min(self._side / max(height, width), 1.0)
        rows, columns = max(round(height * factor), 1), max(round(width * factor), 1)
        self._input = np.zeros((1, -(-rows // GRID) * GRID, -(-columns // GRID) * GRID, 3), np.float32)
        self._scaled = (rows, columns)
        self._source = (height, width)


def scale(frame: Picture, rows: int, columns: int) -> Picture:
    """`frame` at another size, every pixel counted; itself where nothing changes.

    Halving by averages of 2 × 2 pixels as long as that fits, then linear: several times as fast as averaging
    over the whole step, and as good.
    """
    height, width = frame.shape[:2]
    while height % 2 == width % 2 == 0 and height >= 2 * rows and width >= 2 * columns:
        height, width = height // 2, width // 2
        frame = cast(Picture, cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))
    if (height, width) == (rows, columns):
        return frame
    far = height >= 2 * rows or width >= 2 * columns
    interpolation = cv2.INTER_AREA if far else cv2.INTER_LINEAR
    return cast(Picture, cv2.resize(frame, (columns, rows), interpolation=interpolation))


def scale_boxes(boxes: FloatArray, size: tuple[int, int], target: tuple[int, int]) -> FloatArray:
    """Boxes (n × 4, xyxy) in a picture of `size` (height, width) → in one of `target`, clipped to it."""
    height, width = target
    limits = np.array([width, height, width, height], np.float32)
    factors = limits / np.array([size[1], size[0], size[1], size[0]], np.float32)
    return np.clip(boxes * factors, 0, limits)


def suppress(
    boxes: FloatArray, scores: FloatArray, classes: npt.NDArray[np.intp], *, overlap: float, limit: int
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression within each class: the rows to keep, best first, at most `limit`.

    `boxes` n × 4 xyxy; a box goes when a better one of its class overlaps it (IoU) by more than `overlap`.
    Equal scores keep the order of their rows.
    """
    if not len(boxes):
        return np.empty(0, np.intp)
    rectangles: Any = boxes.copy()  # OpenCV's types ask for lists; it takes arrays, and faster
    rectangles[:, 2:] -= boxes[:, :2]
    confidences: Any = scores
    labels: Any = classes.astype(np.int32)
    found = cv2.dnn.NMSBoxesBatched(rectangles, confidences, labels, 0.0, overlap)
    kept = np.sort(np.asarray(found, np.intp))
    best: npt.NDArray[np.intp] = kept[np.argsort(-scores[kept], kind="stable")][:limit]
    return best


def solid(boxes: FloatArray) -> npt.NDArray[np.bool_]:
    """Which boxes (n × 4, xyxy) still have an area once their corners are rounded to 0.1 pixel."""
    corners = np.round(boxes, 1)
    return (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
