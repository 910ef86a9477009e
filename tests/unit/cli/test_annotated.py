from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from monolith.cli.annotated import open_sink
from monolith.frames.jpeg import decode, encode


def _jpeg(level: int, width: int = 64, height: int = 48) -> bytes:
    return encode(np.full((height, width, 3), level, np.uint8), 90)


def _write(path: Path, rate: float, frames: dict[int, float], width: int = 64, height: int = 48) -> None:
    with open_sink(path, rate) as sink:
        for number, timestamp in frames.items():
            sink.write(number, timestamp, _jpeg(number, width, height))


def _shown(path: Path) -> list[tuple[float, int]]:
    """Time and grey level of every picture."""
    with av.open(str(path)) as container:
        return [
            (round(frame.time or 0.0, 3), round(float(frame.to_ndarray(format="gray").mean())))
            for frame in container.decode(video=0)
        ]


def test_an_mp4_shows_every_frame_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "annotated.mp4"
    _write(path, 5, {50: 10.0, 100: 10.2, 150: 10.4, 200: 11.0})
    shown = _shown(path)
    assert [time for time, _ in shown] == [0.0, 0.2, 0.4, 1.0]
    assert all(
        abs(level - expected) <= 3 for (_, level), expected in zip(shown, (50, 100, 150, 200), strict=True)
    )
    assert list(path.parent.iterdir()) == [path]


def test_odd_sides_lose_a_line(tmp_path: Path) -> None:
    path = tmp_path / "annotated.mp4"
    _write(path, 25, {1: 0.0, 2: 0.04}, width=63, height=47)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (62, 46)


def test_equal_times_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "annotated.mp4"
    _write(path, 25, {1: 0.0, 2: 0.0, 3: 0.04})
    assert len(_shown(path)) == 3


def test_an_mp4_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_sink(tmp_path / "annotated.mp4", 25) as sink:
        sink.write(1, 0.0, _jpeg(1))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_a_jpeg_for_each_frame(tmp_path: Path) -> None:
    _write(tmp_path / "frames", 25, {7: 0.0, 12: 0.2})
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["00000007.jpg", "00000012.jpg"]
    assert decode((tmp_path / "frames" / "00000012.jpg").read_bytes()).shape == (48, 64, 3)
