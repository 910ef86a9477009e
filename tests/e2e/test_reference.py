"""The program's answers equal those of a straightforward loop: decode, scale, JPEG, models, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest

from monolith.domain.detection import ColorShare, Detection, FaceDetection, xyxy_to_xywh
from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS
from monolith.frames import jpeg
from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models import catalogue
from tests.media import read_picture, sample_clip
from tests.program import result_rows, until_ended, upload

STEP = 10


def entry(detection: Detection) -> dict[str, Any]:
    """A detection as the API tells it, written anew from SEED_API."""
    if isinstance(detection, ColorShare):
        return {"color": detection.color, "share": detection.share}
    box = [pytest.approx(value, abs=0.051) for value in xyxy_to_xywh(detection.xyxy)]
    if isinstance(detection, FaceDetection):
        return {"face_id": detection.face_id, "coordinates": box, "emotion": detection.emotion}
    return {
        "label": detection.class_name,
        "probability": pytest.approx(detection.confidence * 100, abs=0.006),
        "coordinates": box,
    }


def reference(clip: Path) -> list[tuple[Any, ...]]:
    backend = OpenVinoBackend(threads=1, precision="f32")
    models = {key: catalogue.load(key, backend, infer_from="stored") for key in MODEL_KEYS}
    rows: list[tuple[Any, ...]] = []
    with av.open(str(clip)) as container:
        for number, frame in enumerate(container.decode(video=0), start=1):
            if number % STEP:
                continue
            picture = np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
            stored = jpeg.decode(jpeg.encode(picture, 90))
            for key, model in models.items():
                found = [entry(detection) for detection in model.detect(stored)]
                rows.append((number, round(frame.time or 0, 6), INFERENCE_MODEL_NAMES[key], found))
    return sorted(rows, key=lambda row: (row[0], row[2]))


def clip_of(picture: str, folder: Path) -> Path:
    """A sample picture as a still video of `STEP` frames."""
    pixels = np.asarray(cv2.resize(read_picture(picture), (640, 360)), np.uint8)
    height, width = pixels.shape[:2]
    path = folder / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(STEP):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4", "zidane.jpg"])
async def test_results_equal_the_reference(client: httpx.AsyncClient, tmp_path: Path, name: str) -> None:
    clip = sample_clip(name) if name.endswith(".mp4") else clip_of(name, tmp_path)
    video_id = await upload(client, clip, frame_step=STEP)
    assert (await until_ended(client, video_id))["status"] == "Completed"
    actual = await result_rows(client, video_id)
    expected = reference(clip)
    assert any(row[3] for row in expected if row[2] != "Color Palette Detection")
    assert [row[:3] for row in actual] == [row[:3] for row in expected]
    for ours, plain in zip(actual, expected, strict=True):
        assert len(ours[3]) == len(plain[3]), ours[:3]
        for found, wanted in zip(ours[3], plain[3], strict=True):
            assert {key: found[key] for key in wanted} == wanted
