"""Objects of the 80 COCO classes, by NanoDet-g.

Each cell of three grids (strides 8, 16, 32) gives 80 class scores and, for each side of its box, a distribution
over the distances 0–10 strides; the expected distance is the side (Generalized Focal Loss, Li et al. 2020, eq. 5).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from monolith.domain.detection import ObjectDetection
from monolith.domain.models import ModelIdentity
from monolith.inference.backends.base import CompiledNetwork, FloatArray
from monolith.inference.models.base import GRID, Picture, scale, scale_boxes, solid, suppress
from monolith.inference.models.coco import COCO_LABELS

OUTPUTS: Final = ("scores", "bins")
BUDGET: Final = 416
"""The input has about the area of the square that the network was trained on …"""
LONGEST: Final = 544
"""… but no side above this, so that wide pictures cost less."""
STRIDES: Final = (8, 16, 32)
OVERLAP: Final = 0.6
"""IoU above which the weaker of two boxes of one class goes (upstream's value)."""
CANDIDATES: Final = 1000
DETECTIONS: Final = 100


class ObjectsModel:
    """Detects objects of at least confidence `floor` (0–1), at most 100 in a picture."""

    def __init__(self, network: CompiledNetwork, identity: ModelIdentity, *, floor: float) -> None:
        self.identity = identity
        self._network = network
        self._floor = floor
        self._cells: dict[tuple[int, int], FloatArray] = {}
        self._input: FloatArray = np.empty((1, 0, 0, 3), np.float32)

    def warm_up(self) -> None:
        self.detect(np.zeros((360, 640, 3), np.uint8))

    def detect(self, frame: Picture) -> tuple[ObjectDetection, ...]:
        size = input_size(*frame.shape[:2])
        scores, bins = self._network.run(self._fill(frame, size))
        rows, classes, confidences = candidates(scores[0], self._floor)
        boxes = scale_boxes(decode_boxes(bins[0][rows], self._centres(*size)[rows]), size, frame.shape[:2])
        keep = suppress(boxes, confidences, classes, overlap=OVERLAP, limit=DETECTIONS)
        return as_objects(boxes[keep], confidences[keep], classes[keep])

    def _fill(self, frame: Picture, size: tuple[int, int]) -> FloatArray:
        """The network's input, in an array that is used again for the next picture of its size."""
        if self._input.shape[1:3] != size:
            self._input = np.empty((1, *size, 3), np.float32)
        self._input[0] = scale(frame, *size)
        return self._input

    def _centres(self, height: int, width: int) -> FloatArray:
        size = (height, width)
        if size not in self._cells:
            self._cells[size] = cell_centres(height, width)
        return self._cells[size]


def input_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the input for a picture: its shape, but for rounding to multiples of 32."""
    factor = min(BUDGET / math.sqrt(height * width), LONGEST / max(height, width))
    return max(round(height * factor / GRID), 1) * GRID, max(round(width * factor / GRID), 1) * GRID


def cell_centres(height: int, width: int) -> FloatArray:
    """x, y and stride of every cell for an input of `height` × `width`, in the order of the network's rows."""
    grids = []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride].reshape(2, -1) * stride + stride / 2
        grids.append(np.stack([x, y, np.full(len(x), stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def candidates(
    scores: FloatArray, floor: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Rows (cells), classes and scores of the best entries of `scores` (cells × classes) that reach `floor`."""
    flat = scores.reshape(-1)
    found = np.flatnonzero(flat >= floor)
    if len(found) > CANDIDATES:
        found = np.sort(found[np.argsort(-flat[found], kind="stable")[:CANDIDATES]])
    rows, classes = np.divmod(found, scores.shape[1])
    return rows, classes, flat[found]


def decode_boxes(bins: FloatArray, cells: FloatArray) -> FloatArray:
    """`bins` (n × 44: 11 logits each for left, top, right, bottom) around `cells` (n × 3) → boxes n × 4, xyxy."""
    logits = bins.reshape(-1, 4, 11)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    distances = weights @ np.arange(11, dtype=np.float32) / weights.sum(axis=2) * cells[:, 2:]
    centres = cells[:, :2]
    return np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)


def as_objects(
    boxes: FloatArray, confidences: FloatArray, classes: npt.NDArray[np.intp]
) -> tuple[ObjectDetection, ...]:
    """Rounded for storage; boxes without an area are left out."""
    usable = solid(boxes)
    rows = zip(boxes[usable].tolist(), confidences[usable].tolist(), classes[usable].tolist(), strict=True)
    return tuple(
        ObjectDetection(
            class_id=class_id,
            class_name=COCO_LABELS[class_id],
            confidence=round(confidence, 4),
            xyxy=(round(left, 1), round(top, 1), round(right, 1), round(bottom, 1)),
        )
        for (left, top, right, bottom), confidence, class_id in rows
    )
