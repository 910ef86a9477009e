"""The palette against plain pictures, a slow k-means and what holds for any picture."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings

from monolith.domain.models import ModelIdentity
from monolith.inference.models.colors import ColorsModel, cluster, thumbnail_pixels
from tests.media import read_picture
from tests.unit.inference.models.pictures import EXTREME_SIZES, Picture, make_picture, pictures

MODEL = ColorsModel(
    ModelIdentity(
        key="color_detection", name="k", version="1", digest="", precision="f32", infer_from="stored"
    )
)


def palette(picture: Picture) -> list[tuple[str, float]]:
    return [(entry.color, entry.share) for entry in MODEL.detect(picture)]


def test_three_flat_colours_come_out_exactly() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:, :50], picture[:, 50:80], picture[:, 80:] = (250, 10, 20), (0, 128, 255), (17, 34, 51)
    assert palette(picture) == [("#fa0a14", 0.5), ("#0080ff", 0.3), ("#112233", 0.2)]


def test_a_rare_colour_is_no_less_exact() -> None:
    picture = np.full((100, 100, 3), 40, np.uint8)
    picture[:50], picture[0, :2] = 200, (255, 0, 0)
    assert palette(picture) == [("#282828", 0.5), ("#c8c8c8", 0.4998), ("#ff0000", 0.0002)]


def test_one_colour_repeats_with_no_share() -> None:
    picture = np.full((30, 40, 3), (1, 2, 3), np.uint8)
    assert palette(picture) == [("#010203", 1.0), ("#010203", 0.0), ("#010203", 0.0)]


def test_two_colours_leave_one_entry_without_share() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:30] = 255
    assert palette(picture) == [("#ffffff", 0.75), ("#000000", 0.25), ("#ffffff", 0.0)]


def assert_sound(picture: Picture) -> None:
    entries = palette(picture)
    shares = [share for _, share in entries]
    assert len(entries) == 3 and all(re.fullmatch("#[0-9a-f]{6}", color) for color, _ in entries)
    assert sum(shares) == pytest.approx(1, abs=1e-9) and min(shares) >= 0
    assert shares[0] >= shares[1] - 1e-4 >= shares[2] - 2e-4
    assert palette(picture.copy()) == entries


@given(picture=pictures())
@settings(max_examples=40, deadline=None)
def test_any_picture_has_a_sound_palette(picture: Picture) -> None:
    assert_sound(picture)


@pytest.mark.parametrize("size", EXTREME_SIZES)
def test_any_size_has_a_sound_palette(size: tuple[int, int]) -> None:
    assert_sound(make_picture(*size, seed=4))


def test_all_pixels_count_not_only_the_first() -> None:
    picture = np.zeros((90, 90, 3), np.uint8)
    picture[-30:] = (255, 255, 0)
    assert dict(palette(picture))["#ffff00"] == pytest.approx(1 / 3, abs=1e-3)


def slow_rounds(pixels: list[tuple[int, ...]], centres: list[list[float]], rounds: int) -> list[list[float]]:
    """Lloyd's algorithm, pixel by pixel."""
    for _ in range(rounds):
        parts: list[list[tuple[int, ...]]] = [[] for _ in centres]
        for pixel in pixels:
            distances = [sum((a - b) ** 2 for a, b in zip(pixel, centre, strict=True)) for centre in centres]
            parts[distances.index(min(distances))].append(pixel)
        centres = [[sum(axis) / len(part) for axis in zip(*part, strict=True)] for part in parts]
    return centres


@pytest.mark.parametrize("name", ["bus.jpg", "zidane.jpg"])
def test_the_clusters_are_where_a_slow_k_means_stays(name: str) -> None:
    """From our result, the plain algorithm in exact arithmetic moves no colour by more than two steps of 255."""
    pixels = thumbnail_pixels(read_picture(name)[::16, ::16])
    centres, counts = cluster(pixels)
    rows = [tuple(int(value) for value in row) for row in pixels[:3].T]
    assert slow_rounds(rows, centres.tolist(), rounds=8) == [
        pytest.approx(row, abs=2) for row in centres.tolist()
    ]
    assert counts.sum() == len(rows)


def test_a_thumbnail_keeps_the_mean_colour() -> None:
    picture = read_picture("zidane.jpg")
    pixels = thumbnail_pixels(picture)
    assert pixels.shape == (4, 128 * 128) and (pixels[3] == 1).all()
    assert pixels[:3].mean(axis=1) == pytest.approx(picture.mean(axis=(0, 1)), abs=0.7)


def test_a_small_picture_is_read_as_it_is() -> None:
    picture = make_picture(5, 7, seed=1)
    assert (thumbnail_pixels(picture)[:3].T.reshape(5, 7, 3) == picture).all()
