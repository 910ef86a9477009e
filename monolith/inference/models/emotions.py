"""Faces and their emotions: CenterFace finds the faces, mini-Xception judges each one's 64 × 64 grey picture."""

from __future__ import annotations

from typing import Final, cast

import cv2
import numpy as np

from monolith.domain.detection import EMOTIONS, FaceDetection
from monolith.domain.models import ModelIdentity
from monolith.inference.backends.base import CompiledNetwork, FloatArray
from monolith.inference.models.base import Picture, scale
from monolith.inference.models.faces import FaceFinder

OUTPUTS: Final = ("emotions",)
SIDE: Final = 64
FACES: Final = 32
"""At most so many faces of a picture are judged, the surest ones."""


class EmotionsModel:
    """Judges the emotion of every face that `finder` finds."""

    def __init__(self, finder: FaceFinder, network: CompiledNetwork, identity: ModelIdentity) -> None:
        self.identity = identity
        self._finder = finder
        self._network = network

    def warm_up(self) -> None:
        self._finder.find(np.zeros((360, 640, 3), np.uint8))
        self._network.run(np.zeros((1, SIDE, SIDE, 1), np.float32))

    def detect(self, frame: Picture) -> tuple[FaceDetection, ...]:
        boxes, confidences = self._finder.find(frame)
        if not len(boxes):
            return ()
        (emotions,) = self._network.run(np.stack([face_input(frame, box) for box in boxes]))
        rows = zip(boxes.tolist(), confidences.tolist(), emotions.tolist(), strict=True)
        return tuple(_as_face(number, *row) for number, row in enumerate(rows, start=1))


def face_input(frame: Picture, box: FloatArray) -> FloatArray:
    """The square around `box` (xyxy) with its longer side, cut off at the picture's edge: 64 × 64 × 1, grey 0–255.

    The network was trained on squares. Of squares from 0.8 to 1.3 longer sides this one gave the surest and most
    plausible answers on the sample pictures.
    """
    height, width = frame.shape[:2]
    half = max(box[2] - box[0], box[3] - box[1]) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = min(max(int(x - half), 0), width - 1), min(max(int(y - half), 0), height - 1)
    right, bottom = max(min(round(x + half), width), left + 1), max(min(round(y + half), height), top + 1)
    grey = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    return scale(cast(Picture, grey), SIDE, SIDE)[:, :, None].astype(np.float32)


def _as_face(number: int, box: list[float], confidence: float, emotions: list[float]) -> FaceDetection:
    left, top, right, bottom = (round(value, 1) for value in box)
    probabilities = tuple(round(value, 4) for value in emotions)
    best = max(range(len(EMOTIONS)), key=emotions.__getitem__)
    return FaceDetection(
        face_id=number,
        confidence=round(confidence, 4),
        xyxy=(left, top, right, bottom),
        emotion=EMOTIONS[best],
        emotion_probability=probabilities[best],
        emotions=probabilities,
    )
