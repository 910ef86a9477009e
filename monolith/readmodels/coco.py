"""Results in COCO's format for object detection: one JSON document of images, categories and annotations.

An image's id is its frame number. Objects keep the ids that COCO gives its 80 classes (1–90 with gaps); emotions of
faces are further categories of the supercategory `face`. Boxes are left, top, width, height in pixels of the stored
frame; `score` is 0–1. Colours have no box: they are the `palette` of their image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from monolith.domain.detection import (
    EMOTIONS,
    ColorShare,
    Detection,
    FaceDetection,
    ObjectDetection,
    Xyxy,
    xyxy_to_xywh,
)
from monolith.inference.models.coco import COCO_LABELS
from monolith.readmodels.findings import Findings

_SUPERCATEGORIES: Final = (
    ("person", 1),
    ("vehicle", 8),
    ("outdoor", 5),
    ("animal", 10),
    ("accessory", 5),
    ("sports", 10),
    ("kitchen", 7),
    ("food", 10),
    ("furniture", 6),
    ("electronic", 6),
    ("appliance", 5),
    ("indoor", 7),
)
"""In the order of `COCO_LABELS`, with the number of labels in each."""

_UNUSED_IDS: Final = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""Classes of COCO's paper that its annotations never got."""
_FIRST_EMOTION_ID: Final = 101
_FACE: Final = "face"

_encode: Final = msgspec.json.Encoder().encode


class Category(msgspec.Struct, frozen=True):
    id: int
    name: str
    supercategory: str


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame. `timestamp`: seconds of the video; `coco_url`: the stored picture."""

    id: int
    width: int
    height: int
    file_name: str
    coco_url: str
    timestamp: float
    palette: list[dict[str, Any]] = []


class Annotation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A box without an outline. `area` in square pixels; a face has its emotion's probability, 0–1, and its number in
    the frame."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int
    segmentation: tuple[()]
    score: float
    emotion_score: float | None = None
    face_id: int | None = None


def _object_ids() -> dict[str, int]:
    used = (number for number in range(1, 91) if number not in _UNUSED_IDS)
    return dict(zip(COCO_LABELS, used, strict=True))


OBJECT_IDS: Final = _object_ids()
EMOTION_IDS: Final = {emotion: number for number, emotion in enumerate(EMOTIONS, _FIRST_EMOTION_ID)}


def categories() -> list[Category]:
    """All of them, whether something of them was found or not: ids mean the same in every document."""
    groups = [name for name, count in _SUPERCATEGORIES for _ in range(count)]
    objects = [
        Category(number, label, group)
        for (label, number), group in zip(OBJECT_IDS.items(), groups, strict=True)
    ]
    return objects + [Category(number, emotion, _FACE) for emotion, number in EMOTION_IDS.items()]


class CocoWriter:
    """Writes a document in one pass: annotations come first, images are kept aside until the end.

    `info` (JSON values) says where it comes from; `frame_url`: the address of the video's frames, to which a number
    and a query are added. Join `head`, `annotations` of all pages, `middle`, all that `images` gave, `tail`.
    """

    def __init__(self, info: dict[str, Any], frame_url: str) -> None:
        self._info = info
        self._frame_url = frame_url
        self._annotations = 0
        self._images = 0

    def head(self) -> bytes:
        return b'{"info":%b,"licenses":[],"categories":%b,"annotations":[' % (
            _encode(self._info),
            _encode(categories()),
        )

    def annotations(self, frames: Iterable[Findings]) -> bytes:
        text = []
        for frame in frames:
            for category, detection in _boxes(frame.detections):
                self._annotations += 1
                text.append(_encode(_annotation(self._annotations, frame.frame_number, category, detection)))
        before = b"," if text and self._annotations > len(text) else b""
        return before + b",".join(text)

    def images(self, frames: Iterable[Findings]) -> bytes:
        text = [_encode(self._image(frame)) for frame in frames]
        before = b"," if text and self._images else b""
        self._images += len(text)
        return before + b",".join(text)

    def middle(self) -> bytes:
        return b'],"images":['

    def tail(self) -> bytes:
        return b"]}"

    def _image(self, frame: Findings) -> Image:
        number = frame.frame_number
        return Image(
            id=number,
            width=frame.width,
            height=frame.height,
            file_name=f"{number:08d}.jpg",
            coco_url=f"{self._frame_url}/{number}?annotated=false",
            timestamp=round(frame.timestamp, 6),
            palette=[
                {"color": found.color, "share": round(found.share, 4)}
                for found in frame.detections
                if isinstance(found, ColorShare)
            ],
        )


def _boxes(detections: Iterable[Detection]) -> Iterator[tuple[int, ObjectDetection | FaceDetection]]:
    """Detections that have a box, with the ids of their categories."""
    for detection in detections:
        if isinstance(detection, ObjectDetection):
            yield OBJECT_IDS[detection.class_name], detection
        elif isinstance(detection, FaceDetection):
            yield EMOTION_IDS[detection.emotion], detection


def _annotation(
    number: int, image: int, category: int, detection: ObjectDetection | FaceDetection
) -> Annotation:
    box = _box(detection.xyxy)
    face = detection if isinstance(detection, FaceDetection) else None
    return Annotation(
        id=number,
        image_id=image,
        category_id=category,
        bbox=box,
        area=round(box[2] * box[3], 2),
        iscrowd=0,
        segmentation=(),
        score=round(detection.confidence, 6),
        emotion_score=None if face is None else round(face.emotion_probability, 6),
        face_id=None if face is None else face.face_id,
    )


def _box(xyxy: Xyxy) -> tuple[float, float, float, float]:
    left, top, width, height = xyxy_to_xywh(xyxy)
    return round(left, 2), round(top, 2), round(width, 2), round(height, 2)
