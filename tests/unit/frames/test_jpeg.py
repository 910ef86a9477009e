from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.frames import jpeg
from monolith.frames.jpeg import JpegError, fitted_size, scaled_size
from tests.media import read_frame

_SIZES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "max_height", "expected"),
    [
        ((1920, 1080), 720, (1280, 720)),
        ((640, 272), 720, (640, 272)),  # never enlarged
        ((1920, 1081), 550, (977, 550)),  # no common divisor
        ((1080, 1920), 720, (405, 720)),
        ((1, 1000), 10, (1, 10)),  # never 0
    ],
)
def test_scaled_size(size: tuple[int, int], max_height: int, expected: tuple[int, int]) -> None:
    assert scaled_size(*size, max_height) == expected


@given(_SIZES, _SIZES, st.integers(1, 4000))
def test_scaling_keeps_the_aspect_ratio(width: int, height: int, max_height: int) -> None:
    new_width, new_height = scaled_size(width, height, max_height)

    assert 1 <= new_height <= max_height and 1 <= new_width <= width
    assert new_width == 1 or abs(new_width - width * new_height / height) <= 0.5


@given(_SIZES, _SIZES, st.integers(1, 4000), st.integers(3, 3_000_000))
def test_fitted_pictures_fit(width: int, height: int, max_height: int, max_bytes: int) -> None:
    new_width, new_height = fitted_size(width, height, max_height, max_bytes)

    assert new_width >= 1 and 1 <= new_height <= max_height
    assert new_width * new_height * 3 <= max_bytes


def test_fitting_keeps_the_aspect_ratio() -> None:
    width, height = fitted_size(1920, 1080, 1080, 1920 * 1080)  # a third of what it needs

    assert abs(width / height - 16 / 9) < 0.01


def test_no_size_below_one() -> None:
    with pytest.raises(ValueError, match="sizes start at 1"):
        scaled_size(0, 10, 10)


def test_a_real_picture_survives() -> None:
    picture = read_frame("bikes.mp4", 10)

    data = jpeg.encode(picture, 90)
    decoded = jpeg.decode(data)

    assert jpeg.size(data) == (640, 272)
    assert np.abs(decoded.astype(int) - picture).mean() < 4


def test_decoding_into_memory_of_another_shape_is_refused() -> None:
    data = jpeg.encode(np.zeros((8, 16, 3), np.uint8), 90)

    with pytest.raises(JpegError, match="JPEG of 16×8 for a picture of shape"):
        jpeg.decode_into(data, np.zeros((16, 8, 3), np.uint8))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no picture"])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(JpegError, match="not a JPEG"):
        jpeg.decode(data)


def test_a_cut_jpeg_is_refused() -> None:
    data = jpeg.encode(read_frame("bikes.mp4", 0), 90)

    with pytest.raises(JpegError, match="damaged JPEG"):
        jpeg.decode(data[: len(data) // 2])
