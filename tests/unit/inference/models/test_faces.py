"""CenterFace's decoding, and what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models.catalogue import weights_folder
from monolith.inference.models.faces import OUTPUTS, FaceFinder, decode_faces
from tests.media import read_picture
from tests.unit.inference.models.pictures import iou


@pytest.fixture(scope="module")
def finder(backend: OpenVinoBackend) -> FaceFinder:
    network = backend.compile(weights_folder() / "centerface.onnx", output_names=OUTPUTS)
    return FaceFinder(network, floor=0.2, limit=10)


def test_faces_are_found_best_first(finder: FaceFinder) -> None:
    boxes, confidences = finder.find(read_picture("zidane.jpg"))
    assert len(boxes) == 2 and confidences[0] > confidences[1] > 0.8
    assert iou(tuple(boxes[0]), (910, 90, 1060, 282)) > 0.8
    assert iou(tuple(boxes[1]), (545, 240, 670, 440)) > 0.8


def test_no_more_faces_than_the_limit(backend: OpenVinoBackend) -> None:
    network = backend.compile(weights_folder() / "centerface.onnx", output_names=OUTPUTS)
    _, confidences = FaceFinder(network, floor=0.2, limit=1).find(read_picture("zidane.jpg"))
    assert len(confidences) == 1 and confidences[0] > 0.85


def test_a_mirrored_picture_has_mirrored_faces(finder: FaceFinder) -> None:
    picture = read_picture("zidane.jpg")
    boxes, _ = finder.find(picture)
    mirrored, _ = finder.find(picture[:, ::-1])
    for left, top, right, bottom in boxes.tolist():
        expected = (1280 - right, top, 1280 - left, bottom)
        assert max(iou(tuple(box), expected) for box in mirrored.tolist()) > 0.8


def test_a_cell_is_decoded_to_its_box() -> None:
    heatmap = np.zeros((8, 10), np.float32)
    sizes, offsets = np.zeros((2, 8, 10), np.float32), np.zeros((2, 8, 10), np.float32)
    heatmap[3, 5] = 0.9
    sizes[:, 3, 5] = math.log(6), math.log(4)  # height, width in cells
    offsets[:, 3, 5] = 0.25, -0.5  # y, x
    boxes, confidences = decode_faces(heatmap, sizes, offsets, 0.2)
    x, y = (5 - 0.5 + 0.5) * 4, (3 + 0.25 + 0.5) * 4
    assert boxes[0] == pytest.approx([x - 8, y - 12, x + 8, y + 12], abs=1e-4)
    assert confidences.tolist() == [pytest.approx(0.9)]


def test_absurd_sizes_stay_finite() -> None:
    ones = np.ones((40, 40), np.float32)
    boxes, _ = decode_faces(
        ones, np.full((2, 40, 40), 1e6, np.float32), np.zeros((2, 40, 40), np.float32), 0.2
    )
    assert len(boxes) == 500 and np.isfinite(boxes).all()
