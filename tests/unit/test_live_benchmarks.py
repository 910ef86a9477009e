"""The clock in the pictures of the benchmarks, and what is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.detection import Told, figures
from benchmarks.live_media import HEIGHT, RATE, WIDTH, encode_street, megabits_per_second, number_of
from benchmarks.live_publisher import nearest
from benchmarks.processor import processor_seconds
from monolith.frames import jpeg


def test_the_number_of_a_picture_outlives_codec_and_jpeg(tmp_path: Path) -> None:
    clip = encode_street(tmp_path / "street.mp4", 0.5)
    with av.open(str(clip)) as container:
        pictures = [np.asarray(one.to_ndarray(format="rgb24"), np.uint8) for one in container.decode(video=0)]
    assert {picture.shape for picture in pictures} == {(HEIGHT, WIDTH, 3)}
    shown = [number_of(jpeg.decode(jpeg.encode(picture, 90))) for picture in pictures]
    assert shown == list(range(RATE // 2))
    assert megabits_per_second(clip) > 0


def test_a_number_is_of_the_newest_picture_that_shows_it() -> None:
    taken = {3: 1_000.0, 259: 9_000.0, 515: 17_000.0}
    assert nearest(taken, 3, 9_100.0) == 9_000.0
    assert nearest(taken, 3, 8_999.0) is None, "nobody sees a picture that was taken so long ago"
    assert nearest(taken, 4, 9_100.0) is None


def test_figures_are_of_the_frames_that_the_client_heard_of() -> None:
    frames = [
        (1000.0 * n, Told(n, n % 2, 1000.0 * n + 40, 1000.0 * n + 60, 1000.0 * n + 70)) for n in range(30)
    ]
    found = figures(frames, lost=10)
    assert (found["p50_ms"], found["p95_ms"]) == (70, 70)
    assert (found["to_model_p50_ms"], found["model_p50_ms"], found["to_client_p50_ms"]) == (40, 20, 10)
    assert (found["frames"], found["with_objects_share"]) == (30, 0.5)
    assert found["lost_share"] == pytest.approx(0.2)


def test_processor_time_counts_work() -> None:
    before = processor_seconds(os.getpid())
    while processor_seconds(os.getpid()) < before + 0.05:
        sum(range(10_000))
    with pytest.raises(FileNotFoundError):
        processor_seconds(2**31)
