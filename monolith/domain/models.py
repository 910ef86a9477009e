"""The names under which users ask for models, and what a run records of the model that judged."""

from __future__ import annotations

from typing import Final

import msgspec

INFERENCE_MODEL_NAMES: Final[dict[str, str]] = {
    "color_detection": "Color Palette Detection",
    "emotions_detection": "Joy Detection",
    "objects_detection": "Object Detection",
}
"""`modelsToRun` name → `inference_model` in results (names that users' scripts rely on)."""

MODEL_KEYS: Final = tuple(INFERENCE_MODEL_NAMES)

DEFAULT_THRESHOLDS: Final[dict[str, float]] = {
    "color_detection": 0.0,
    "emotions_detection": 0.5,
    "objects_detection": 0.4,
}
"""Confidence (0–1) from which detections are shown by default. Lower ones are stored too."""


def shown_from(model_key: str, min_confidence: float | None) -> float:
    """The confidence from which a model's detections are shown: the one asked for, else the model's default."""
    return DEFAULT_THRESHOLDS[model_key] if min_confidence is None else min_confidence


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which model judged, exactly: enough to tell two answers apart and to run it again.

    `digest` is the sha256 of its weights (several files: of their digests in order), `precision` what the
    engine really computes in (`f32`, `bf16`, `f16`), `infer_from` is `stored` (the decoded stored JPEG) or
    `source` (the picture before JPEG).
    """

    key: str
    name: str
    version: str
    digest: str
    precision: str
    infer_from: str
