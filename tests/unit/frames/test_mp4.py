from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from monolith.frames import mp4
from monolith.frames.jpeg import Picture
from monolith.frames.mp4 import Mp4Writer, NoEncoderError, bounded_rate


def grey(level: int, width: int = 64, height: int = 48) -> Picture:
    return np.full((height, width, 3), level, np.uint8)


def written(path: Path, times: list[float], rate: float = 5) -> float:
    with Mp4Writer(path, 64, 48, rate) as writer:
        for number, seconds in enumerate(times, 1):
            writer.write(grey(number % 6 * 40), seconds)
        end = writer.finish()
        assert writer.frames == len(times)
        return end


def shown(path: Path) -> list[tuple[float, int]]:
    """Time and grey level of every picture."""
    with av.open(str(path)) as container:
        return [
            (round(frame.time or 0.0, 3), round(float(frame.to_ndarray(format="gray").mean())))
            for frame in container.decode(video=0)
        ]


def test_every_picture_is_shown_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    end = written(path, [0.36, 0.56, 0.96, 5.0])
    found = shown(path)
    assert [time for time, _ in found] == [0.36, 0.56, 0.96, 5.0]
    assert all(abs(level - number * 40) <= 3 for number, (_, level) in enumerate(found, 1))
    assert end == pytest.approx(5.2)


def test_the_last_picture_is_shown_as_long_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    end = written(path, [0.0, 0.5, 3.0], rate=2)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(3.5e6, abs=100)
    assert end == pytest.approx(3.5)


def test_equal_times_are_kept_apart_in_order(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    written(path, [0.0, 0.0, 0.0, 0.04])
    levels = [level for _, level in shown(path)]
    assert levels == sorted(levels)
    assert len(levels) == 4


def test_a_gap_of_days_is_cut_to_six_hours(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    written(path, [0.0, 200_000.0, 200_001.0])
    assert [time for time, _ in shown(path)] == [0.0, 21_600.0, 21_601.0]


def test_one_picture_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    assert written(path, [0.0], rate=4) == pytest.approx(0.25)
    assert len(shown(path)) == 1


def test_the_index_comes_before_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    written(path, [n / 5 for n in range(20)])
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_where_h264_is_missing_mpeg4_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = mp4._ENCODERS
    missing = [mp4._Encoder("no_such_encoder", {}, Fraction(1, 90_000))]
    monkeypatch.setattr(mp4, "_ENCODERS", (*missing, *(one for one in encoders if one.name == "mpeg4")))
    path = tmp_path / "video.mp4"
    with Mp4Writer(path, 64, 48, 5) as writer:
        for number in range(5):
            writer.write(grey(50 * number), number / 5)
        writer.finish()
    assert writer.codec == "mpeg4"
    assert [time for time, _ in shown(path)] == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_without_any_encoder_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4, "_ENCODERS", (mp4._Encoder("no_such_encoder", {}, Fraction(1, 90_000)),))
    with pytest.raises(NoEncoderError, match="can encode no video: none of no_such_encoder works at 64×48"):
        Mp4Writer(tmp_path / "video.mp4", 64, 48, 5)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1 / 1000), (1e9, 1000.0), (25.0, 25.0), (29.97, 29.97)])
def test_rates_are_bounded(rate: float, expected: float) -> None:
    assert float(bounded_rate(rate)) == pytest.approx(expected, rel=1e-5)
