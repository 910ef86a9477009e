"""Cutting a source into segments of about so many seconds: at keyframes where they are known, else by frame count."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import numpy as np

from monolith.domain.segment import SegmentPlan
from monolith.ingest.scan import PtsTable, seconds

_LONGEST: Final = 4
"""A GOP longer than so many segments is cut inside: work, recovery and retention need bounded pieces."""
_SHORTEST: Final = 0.25
"""A rest shorter than this part of a segment joins the segment before it."""


def plan_indexed(
    pts: PtsTable, keyframes: PtsTable, time_base: Fraction, segment_seconds: float
) -> tuple[SegmentPlan, ...]:
    """Segments of a non-empty `pts` table, each starting at a keyframe's rank (or inside an overlong GOP).

    Leading pictures of an open GOP (pts below their keyframe's) fall to the segment before.
    """
    wanted = max(1, round(segment_seconds / time_base))
    starts = [0]
    while (cut := _next_cut(pts, keyframes, starts[-1], wanted)) is not None:
        starts.append(cut)
    return tuple(
        _indexed_segment(number, pts, time_base, start, end)
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(pts)], strict=True))
    )


def _next_cut(pts: PtsTable, keyframes: PtsTable, start: int, wanted: int) -> int | None:
    """Index of the picture that opens the next segment; None when this one takes the rest."""
    begin, end = int(pts[start]), int(pts[-1])
    if end - begin < wanted * (1 + _SHORTEST):
        return None
    goal = begin + wanted
    after = int(np.searchsorted(keyframes, goal))
    near = [
        int(key)
        for key in keyframes[max(0, after - 1) : after + 1]
        if begin < key <= begin + wanted * _LONGEST
    ]
    if near:
        cut = min(near, key=lambda key: abs(key - goal))
    elif after < len(keyframes) or end - begin > wanted * _LONGEST:
        cut = begin + wanted * _LONGEST
    else:
        return None
    if end - cut < wanted * _SHORTEST:
        return None
    index = int(np.searchsorted(pts, cut))
    return index if start < index < len(pts) else None


def _indexed_segment(number: int, pts: PtsTable, time_base: Fraction, start: int, end: int) -> SegmentPlan:
    until = pts[end] if end < len(pts) else pts[-1]
    return SegmentPlan(
        segment=number,
        first_frame=start + 1,
        last_frame=end,
        start=seconds(int(pts[start] - pts[0]), time_base),
        end=seconds(int(until - pts[0]), time_base),
    )


def plan_sequential(
    frames: int, frame_rate: float | None, duration: float | None, segment_seconds: float
) -> tuple[SegmentPlan, ...]:
    """Ranges of about `segment_seconds` by an estimate of `frames` pictures; the last one goes on to the end."""
    rate = frame_rate or (frames / duration if duration else None) or 25.0
    each = max(1, round(rate * segment_seconds))
    count = max(1, math.floor(frames / each + 1 - _SHORTEST))
    return tuple(
        SegmentPlan(
            segment=number,
            first_frame=number * each + 1,
            last_frame=(number + 1) * each if number + 1 < count else None,
            start=number * each / rate,
            end=(number + 1) * each / rate if number + 1 < count else duration,
        )
        for number in range(count)
    )
