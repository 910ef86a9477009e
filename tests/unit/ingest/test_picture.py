from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from monolith.ingest.picture import UPRIGHT, Converter, Orientation, orientation_of, turned
from monolith.ingest.probe import first_picture
from tests.videos import Recipe, barcode, make_video, read_barcode

_COLOURS = ((200, 30, 40), (30, 180, 60), (20, 60, 220), (128, 128, 128))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_rotated_video_comes_out_upright(tmp_path: Path, degrees: int) -> None:
    """`degrees` count counter-clockwise in the matrix (`av_display_rotation_get`): that turn is applied."""
    frame = first_picture(make_video(tmp_path, Recipe(rotation=degrees, frames=2)))

    upright = Converter(1000, 1 << 24).rgb(frame)

    assert orientation_of(frame).quarter_turns == -degrees // 90 % 4
    assert upright.shape == ((160, 120, 3) if degrees % 180 else (120, 160, 3))
    assert read_barcode(np.rot90(upright, k=-(degrees // 90))) == 1


def test_turning_is_clockwise_after_mirroring() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    a, b, c, d = (picture[y, x].tolist() for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)))

    def rows(orientation: Orientation) -> object:
        return turned(picture, orientation).tolist()

    assert rows(UPRIGHT) == [[a, b], [c, d]]
    assert rows(Orientation(1, mirrored=False)) == [[c, a], [d, b]]
    assert rows(Orientation(2, mirrored=False)) == [[d, c], [b, a]]
    assert rows(Orientation(3, mirrored=False)) == [[b, d], [a, c]]
    assert rows(Orientation(0, mirrored=True)) == [[b, a], [d, c]]
    assert rows(Orientation(1, mirrored=True)) == [[d, b], [c, a]]


@pytest.mark.parametrize("colour", _COLOURS)
@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("max_height", [64, 40])
def test_colours_are_right_by_matrix_and_range(
    colour: tuple[int, int, int], matrix: Colorspace, colour_range: ColorRange, max_height: int
) -> None:
    flat = np.full((64, 64, 3), colour, np.uint8)
    frame = VideoFrame.from_ndarray(flat).reformat(
        format="yuv420p", dst_colorspace=matrix.value, dst_color_range=colour_range.value
    )

    picture = Converter(max_height, 1 << 20).rgb(frame)

    assert picture.shape == (max_height, max_height, 3)
    assert np.abs(picture.astype(int) - colour).max() <= 4


@pytest.mark.parametrize(("height", "matrix"), [(480, Colorspace.ITU601), (960, Colorspace.ITU709)])
def test_an_unnamed_matrix_is_guessed_by_height(height: int, matrix: Colorspace) -> None:
    flat = np.full((height, 64, 3), (200, 30, 40), np.uint8)
    frame = VideoFrame.from_ndarray(flat).reformat(
        format="yuv420p", dst_colorspace=matrix.value, dst_color_range=ColorRange.MPEG.value
    )
    frame.colorspace = 2

    assert np.abs(Converter(720, 1 << 20).rgb(frame).astype(int) - (200, 30, 40)).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(161, 121), (33, 501), (2, 1000), (1000, 2)])
def test_odd_sizes(width: int, height: int) -> None:
    frame = VideoFrame.from_ndarray(np.full((height, width, 3), 99, np.uint8))

    picture = Converter(100, 1 << 20).rgb(frame)

    assert picture.shape[0] == min(height, 100) and picture.shape[1] >= 1
    assert picture.flags.c_contiguous
    assert np.abs(picture.astype(int) - 99).max() <= 1


def test_a_picture_is_made_small_enough_for_its_slot() -> None:
    frame = VideoFrame.from_ndarray(barcode(200, 640, 480))

    picture = Converter(720, 320 * 240 * 3).rgb(frame)

    assert picture.shape == (240, 320, 3)
    assert read_barcode(picture) == 200


@pytest.mark.parametrize(
    "pixel_format", ["yuv444p", "yuv422p", "nv12", "yuv420p10le", "gray", "rgb24", "pal8", "yuva420p"]
)
def test_other_pixel_formats(pixel_format: str) -> None:
    frame = VideoFrame.from_ndarray(barcode(77, 320, 240)).reformat(
        format="yuv420p" if pixel_format == "pal8" else pixel_format
    )
    if pixel_format == "pal8":
        grey = np.ascontiguousarray(barcode(77, 320, 240)[:, :, 0])
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
        frame = VideoFrame.from_ndarray((grey, palette), format="pal8")  # type: ignore[arg-type]

    picture = Converter(120, 1 << 20).rgb(frame)

    assert picture.shape == (120, 160, 3)
    assert read_barcode(picture) == 77
