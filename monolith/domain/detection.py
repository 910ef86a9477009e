"""What a model finds in a frame. Boxes are `xyxy`: left, top, right, bottom in pixels of the stored frame."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Xyxy: TypeAlias = tuple[float, float, float, float]

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Labels of mini-Xception, in the order of its outputs."""


class ObjectDetection(msgspec.Struct, frozen=True, kw_only=True, tag="object", gc=False):
    """One object. `class_id` counts from 0 in the model's labels (COCO: 0–79); `confidence` is 0–1."""

    class_id: int
    class_name: str
    confidence: float
    xyxy: Xyxy


class FaceDetection(msgspec.Struct, frozen=True, kw_only=True, tag="face", gc=False):
    """One face and its emotion. `face_id` counts from 1 in its frame, best `confidence` (0–1) first.

    `emotions` are probabilities in the order of `EMOTIONS`, summing to 1.
    """

    face_id: int
    confidence: float
    xyxy: Xyxy
    emotion: str
    emotion_probability: float
    emotions: tuple[float, ...]


class ColorShare(msgspec.Struct, frozen=True, kw_only=True, tag="color", gc=False):
    """One colour of the palette (`#rrggbb`) and the share of the picture's pixels nearest to it, 0–1."""

    color: str
    share: float


Detection: TypeAlias = ObjectDetection | FaceDetection | ColorShare


def xyxy_to_xywh(xyxy: Xyxy) -> tuple[float, float, float, float]:
    """Left, top, right, bottom → left, top, width, height."""
    left, top, right, bottom = xyxy
    return left, top, right - left, bottom - top


def at_least(detection: Detection, threshold: float) -> bool:
    """Whether a detection counts at a confidence `threshold` (0–1); colours always do."""
    return isinstance(detection, ColorShare) or detection.confidence >= threshold
