"""How detections look to users: one entry of `inference_results`, and one row of `/results` as JSON text.

A row is rendered when it is projected; answers join rows. The only part that a row cannot know is the public address
of the server: `BASE_PLACEHOLDER`, a byte that JSON text never holds, stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from monolith.domain.detection import (
    ColorShare,
    Detection,
    FaceDetection,
    ObjectDetection,
    Xyxy,
    at_least,
    xyxy_to_xywh,
)
from monolith.domain.events import AnalysedFrame
from monolith.domain.models import INFERENCE_MODEL_NAMES

BASE_PLACEHOLDER: Final = b"\x01"

Xywh: TypeAlias = tuple[float, float, float, float]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(tuple[Detection, ...]).decode


class ObjectEntry(msgspec.Struct, frozen=True, gc=False):
    """An object: its COCO label, `probability` 0–100, `coordinates` left, top, width, height in pixels."""

    label: str
    probability: float
    coordinates: Xywh


class FaceEntry(msgspec.Struct, frozen=True, gc=False):
    """A face (`face_id` from 1 in its frame) and its emotion; both probabilities are 0–100."""

    face_id: int
    coordinates: Xywh
    emotion: str
    probability: float
    emotion_probability: float


class ColorEntry(msgspec.Struct, frozen=True, gc=False):
    """A colour of the palette, `#rrggbb`, and its share of the picture, 0–1."""

    color: str
    share: float


ResultEntry: TypeAlias = ObjectEntry | FaceEntry | ColorEntry


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one model found in one frame. Times in seconds (`inference_start_time`: since 1970, UTC)."""

    video_id: str
    frame_number: int
    video_timestamp: float
    inference_model: str
    inference_results: list[msgspec.Raw]
    inference_start_time: float
    inference_time: float
    frames_url: str


def entry(detection: Detection) -> ResultEntry:
    if isinstance(detection, ObjectDetection):
        return ObjectEntry(detection.class_name, _percent(detection.confidence), _box(detection.xyxy))
    if isinstance(detection, FaceDetection):
        return FaceEntry(
            detection.face_id,
            _box(detection.xyxy),
            detection.emotion,
            _percent(detection.confidence),
            _percent(detection.emotion_probability),
        )
    return ColorEntry(detection.color, round(detection.share, 4))


def label_of(detection: Detection) -> str:
    """What the `label` filter compares: an object's label, a face's emotion, a colour."""
    if isinstance(detection, ObjectDetection):
        return detection.class_name
    return detection.color if isinstance(detection, ColorShare) else detection.emotion


class RowRenderer:
    """Renders rows of one model in one video. `threshold`: confidence (0–1) from which detections are shown."""

    def __init__(self, video_id: str, model_key: str, threshold: float, label: str | None = None) -> None:
        self._head = b'{"video_id":%b,"frame_number":' % _encode(video_id)
        self._model = _encode(INFERENCE_MODEL_NAMES[model_key])
        self._path = BASE_PLACEHOLDER + b"/analysis/%b/frame/" % video_id.encode()
        self._threshold = threshold
        self._label = label

    def row(self, frame: AnalysedFrame) -> bytes:
        """The row as JSON text, with `BASE_PLACEHOLDER` in `frames_url`."""
        entries = [entry(found) for found in frame.detections if self.shows(found)]
        return b'%b%d,"video_timestamp":%b,"inference_model":%b,"inference_results":%b,%b%b%d"}' % (
            self._head,
            frame.frame_number,
            _seconds(frame.timestamp),
            self._model,
            _encode(entries),
            b'"inference_start_time":%b,"inference_time":%b,"frames_url":"'
            % (_seconds(frame.started_at), _seconds(frame.seconds)),
            self._path,
            frame.frame_number,
        )

    def shows(self, detection: Detection) -> bool:
        return at_least(detection, self._threshold) and (
            self._label is None or label_of(detection) == self._label
        )


def encode_detections(detections: Sequence[Detection]) -> bytes:
    return _encode(detections)


def decode_detections(data: bytes) -> tuple[Detection, ...]:
    return _decode(data)


def with_base(rows: bytes, base: str) -> bytes:
    """The rows with the server's public address (without a slash at its end) put in."""
    return rows.replace(BASE_PLACEHOLDER, _encode(base)[1:-1])


def _seconds(value: float) -> bytes:
    return _encode(round(value, 6))


def _percent(value: float) -> float:
    return round(value * 100, 2)


def _box(xyxy: Xyxy) -> Xywh:
    left, top, width, height = xyxy_to_xywh(xyxy)
    return round(left, 2), round(top, 2), round(width, 2), round(height, 2)
