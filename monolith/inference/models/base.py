"""The port that the worker sees of a model, and what the detectors share: fitting a picture into a network's
input, and turning rows of boxes into clean ones."""

from __future__ import annotations

from typing import Protocol

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
    """Scales pictures, keeping their shape, into the top left of a float32 input 1 × H × W × 3, black elsewhere.

    The longer side becomes `side` (smaller pictures grow only if `enlarge`); H and W are the next multiples of
    32. The input is overwritten by the next picture.
    """

    def __init__(self, side: int, *, enlarge: bool) -> None:
        self._side = side
        self._enlarge = enlarge
        self._source = (0, 0)
        self._input: FloatArray = np.zeros((1, 0, 0, 3), np.float32)
        self._scaled: Picture = np.zeros((0, 0, 3), np.uint8)

    def fit(self, frame: Picture) -> FloatArray:
        """The network's input for `frame`."""
        height, width = frame.shape[:2]
        if (height, width) != self._source:
            self._prepare(height, width)
        scaled = frame
        if frame.shape != self._scaled.shape:
            shrinks = self._scaled.shape[1] < width
            scaled = cv2.resize(
                frame,
                self._scaled.shape[1::-1],
                dst=self._scaled,
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            )
        self._input[0, : scaled.shape[0], : scaled.shape[1]] = scaled
        return self._input

    def back(self, boxes: FloatArray) -> FloatArray:
        """Boxes (n × 4, xyxy) in pixels of the input → pixels of the picture last fitted, clipped to it."""
        height, width = self._source
        factors = (width / self._scaled.shape[1], height / self._scaled.shape[0])
        limits = np.array([width, height, width, height], np.float32)
        return np.clip(boxes * np.array(factors * 2, np.float32), 0, limits)

    def _prepare(self, height: int, width: int) -> None:
        factor = self._side / max(height, width)
        if not self._enlarge:
            factor = min(factor, 1.0)
        rows, columns = max(round(height * factor), 1), max(round(width * factor), 1)
        self._scaled = np.empty((rows, columns, 3), np.uint8)
        self._input = np.zeros((1, -(-rows // GRID) * GRID, -(-columns // GRID) * GRID, 3), np.float32)
        self._source = (height, width)


def suppress(
    boxes: FloatArray, scores: FloatArray, classes: npt.NDArray[np.intp], *, overlap: float, limit: int
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression within each class: the rows to keep, best first, at most `limit`.

    `boxes` n × 4 xyxy; a box goes when a better one of its class overlaps it (IoU) by more than `overlap`.
    Equal scores keep the order of their rows.
    """
    if not len(boxes):
        return np.empty(0, np.intp)
    rectangles = boxes.copy()
    rectangles[:, 2:] -= boxes[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(rectangles, scores, classes.astype(np.int32), 0.0, overlap)
    kept = np.sort(np.asarray(kept, np.intp))
    return kept[np.argsort(-scores[kept], kind="stable")][:limit]


def solid(boxes: FloatArray) -> npt.NDArray[np.bool_]:
    """Which boxes (n × 4, xyxy) still have an area once their corners are rounded to 0.1 pixel."""
    corners = np.round(boxes, 1)
    return (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
