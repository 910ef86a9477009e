"""Faces, by CenterFace: every cell (4 × 4 pixels) says how likely it is a face's centre, and how big that face is."""

from __future__ import annotations

from typing import Final

import numpy as np

from monolith.inference.backends.base import CompiledNetwork, FloatArray
from monolith.inference.models.base import Letterbox, Picture, solid, suppress

OUTPUTS: Final = ("heatmap", "sizes", "offsets")
SIDE: Final = 640
STRIDE: Final = 4
OVERLAP: Final = 0.3
"""IoU above which the weaker of two faces goes (upstream's value)."""
CANDIDATES: Final = 500
LARGEST: Final = 9.0
"""Logarithm of a face's side in cells that nothing real reaches; keeps the exponential finite."""


class FaceFinder:
    """Finds at most `limit` faces of at least confidence `floor` (0–1), in the picture at no more than 640 pixels."""

    def __init__(self, network: CompiledNetwork, *, floor: float, limit: int) -> None:
        self._network = network
        self._floor = floor
        self._limit = limit
        self._letterbox = Letterbox(SIDE)

    @property
    def precision(self) -> str:
        """What the network computes in."""
        return self._network.precision

    def find(self, frame: Picture) -> tuple[FloatArray, FloatArray]:
        """Boxes (n × 4, xyxy in pixels of the picture, inside it) and their confidences, best first."""
        heatmap, sizes, offsets = self._network.run(self._letterbox.fit(frame))
        boxes, confidences = decode_faces(heatmap[0, 0], sizes[0], offsets[0], self._floor)
        boxes = self._letterbox.back(boxes)
        classes = np.zeros(len(boxes), np.intp)
        keep = suppress(boxes, confidences, classes, overlap=OVERLAP, limit=self._limit)
        keep = keep[solid(boxes[keep])]
        return boxes[keep], confidences[keep]


def decode_faces(
    heatmap: FloatArray, sizes: FloatArray, offsets: FloatArray, floor: float
) -> tuple[FloatArray, FloatArray]:
    """Boxes (n × 4, xyxy in pixels of the input) and confidences of the cells of `heatmap` that reach `floor`.

    `sizes` (logarithms of height and width in cells) and `offsets` (of the centre: y, x) are 2 × h × w.
    """
    y, x = np.nonzero(heatmap >= floor)
    confidences = heatmap[y, x]
    if len(y) > CANDIDATES:
        best = np.sort(np.argsort(-confidences, kind="stable")[:CANDIDATES])
        y, x, confidences = y[best], x[best], confidences[best]
    cells = np.stack([x, y], axis=1).astype(np.float32)
    centres = (cells + offsets[::-1, y, x].T + 0.5) * STRIDE
    halves = np.exp(np.minimum(sizes[::-1, y, x].T, LARGEST)) * (STRIDE / 2)
    return np.concatenate([centres - halves, centres + halves], axis=1), confidences
