"""The three colours that describe a picture best: k-means (k = 3) over all pixels of a thumbnail.

Deterministic without a random generator: the first centres are the means of three equal parts along the axis of
greatest variance (principal component). All sums are whole numbers below 2²⁴, so float32 keeps them exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from monolith.domain.detection import ColorShare
from monolith.domain.models import ModelIdentity
from monolith.inference.backends.base import FloatArray
from monolith.inference.models.base import Picture, scale

COLORS: Final = 3
SIDE: Final = 128
ROUNDS: Final = 24
"""Rounds at most; most pictures settle, with less than one pixel in 2000 changing sides, in about ten."""


class ColorsModel:
    """The palette of a picture: always three entries, biggest share first.

    A picture of fewer than three colours has nothing for the last entries: they repeat its main colour with a
    share of 0.
    """

    def __init__(self, identity: ModelIdentity) -> None:
        self.identity = identity

    def warm_up(self) -> None:
        self.detect(np.zeros((SIDE, SIDE, 3), np.uint8))

    def detect(self, frame: Picture) -> tuple[ColorShare, ...]:
        centres, counts = cluster(thumbnail_pixels(frame))
        order = np.argsort(-counts, kind="stable")
        centres, counts = centres[order], counts[order]
        centres[counts == 0] = centres[0]
        return tuple(map(_as_share, centres, _shares([int(count) for count in counts])))


def thumbnail_pixels(frame: Picture) -> FloatArray:
    """The pixels of the picture, scaled down to 128 × 128 at most: 4 × n, rows red, green, blue (0–255) and 1."""
    height, width = frame.shape[:2]
    small = scale(frame, min(height, SIDE), min(width, SIDE))
    pixels = np.ones((4, small.size // 3), np.float32)
    pixels[:3] = small.reshape(-1, 3).T
    return pixels


def cluster(pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lloyd's algorithm on `pixels` (see `thumbnail_pixels`) → centres (3 × 3, RGB) and their pixel counts."""
    centres, counts = _means(pixels, _first_membership(pixels))
    before = np.zeros((COLORS, 1), np.bool_)
    for _ in range(ROUNDS):
        if not counts.all() and not _fill_empty(pixels, centres, counts):
            break
        membership = _nearest(pixels, centres)
        centres, counts = _means(pixels, membership, centres)
        if np.count_nonzero(membership ^ before) <= pixels.shape[1] // 1000:
            break
        before = membership
    return centres, counts


def _first_membership(pixels: FloatArray) -> np.typing.NDArray[np.bool_]:
    """Three equal parts along the axis of greatest variance."""
    colors = pixels[:3]
    _, axes = np.linalg.eigh(np.cov(colors, ddof=0))
    axis = axes[:, -1] * np.copysign(1.0, axes[np.argmax(np.abs(axes[:, -1])), -1])
    along = axis.astype(np.float32) @ colors
    third = len(along) // 3
    low, high = np.partition(along, (third, 2 * third))[[third, 2 * third]]
    bottom, top = along < low, along >= high
    return np.stack([bottom, ~(bottom | top), top])


def _nearest(pixels: FloatArray, centres: FloatArray) -> np.typing.NDArray[np.bool_]:
    """3 × n: to which centre each pixel is nearest; the first of equally near ones.

    |p - c|² is smallest where 2·p·c - |c|² is greatest.
    """
    weights = np.column_stack([2 * centres, -np.square(centres).sum(axis=1)])
    first, second, third = weights @ pixels
    takes_second = second > first
    takes_third = third > np.maximum(first, second)
    return np.stack([~(takes_second | takes_third), takes_second & ~takes_third, takes_third])


def _means(
    pixels: FloatArray, membership: np.typing.NDArray[np.bool_], fallback: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Mean colour and count of each part; a part without pixels keeps its `fallback`."""
    sums = membership.astype(np.float32) @ pixels.T
    counts = sums[:, 3].copy()
    means = sums[:, :3] / np.maximum(counts, 1)[:, None]
    if fallback is not None:
        means[counts == 0] = fallback[counts == 0]
    return means, counts


def _fill_empty(pixels: FloatArray, centres: FloatArray, counts: FloatArray) -> bool:
    """Move one centre without pixels to the pixel farthest from its own centre; False when every pixel sits on one."""
    used = centres[counts > 0]
    distances = np.square(pixels[:3, :, None] - used.T[:, None, :]).sum(axis=0).min(axis=1)
    farthest = int(distances.argmax())
    if distances[farthest] < 0.5:
        return False
    centres[int(np.flatnonzero(counts == 0)[0])] = pixels[:3, farthest]
    return True


def _shares(counts: list[int]) -> list[float]:
    """Shares of four decimals that sum to 1, in the order of `counts` (the largest-remainder method)."""
    total = sum(counts)
    units = [count * 10_000 // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda index: -(counts[index] * 10_000 % total))
    for index in by_remainder[: 10_000 - sum(units)]:
        units[index] += 1
    return [unit / 10_000 for unit in units]


def _as_share(centre: FloatArray, share: float) -> ColorShare:
    red, green, blue = np.rint(centre).astype(int).tolist()
    return ColorShare(color=f"#{red:02x}{green:02x}{blue:02x}", share=share)
