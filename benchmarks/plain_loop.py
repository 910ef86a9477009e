"""What one would write by hand: one process, PyAV, a JPEG file a frame, OpenVINO with all threads frame by frame."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import av

from benchmarks.media import rgb
from monolith.domain.models import MODEL_KEYS
from monolith.frames import jpeg
from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models import catalogue


def frames_per_second(clip: Path, frames: int) -> float:
    """Frames/s over the first `frames` of `clip`, float32; loading the models is not counted."""
    backend = OpenVinoBackend(threads=os.cpu_count() or 1, precision="f32")
    models = [catalogue.load(key, backend, infer_from="stored") for key in MODEL_KEYS]
    with tempfile.TemporaryDirectory() as folder, av.open(str(clip)) as container:
        container.streams.video[0].thread_type = "AUTO"
        started = 0.0
        for number, frame in enumerate(container.decode(video=0)):
            if number == 0:
                for model in models:
                    model.detect(rgb(frame))
                started = time.perf_counter()
            if number == frames:
                break
            data = jpeg.encode(rgb(frame), 90)
            Path(folder, f"{number:06d}.jpg").write_bytes(data)
            stored = jpeg.decode(data)
            for model in models:
                model.detect(stored)
        return frames / (time.perf_counter() - started)
