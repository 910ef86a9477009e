from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.segment import SegmentPlan
from monolith.ingest.segments import plan_indexed, plan_sequential

_MS = Fraction(1, 1000)


def _plan(pts: list[int], keyframes: list[int], segment_seconds: float) -> tuple[SegmentPlan, ...]:
    return plan_indexed(np.array(pts, np.int64), np.array(keyframes, np.int64), _MS, segment_seconds)


def _ranges(plans: tuple[SegmentPlan, ...]) -> list[tuple[int, int | None]]:
    return [(plan.first_frame, plan.last_frame) for plan in plans]


def test_segments_start_at_the_nearest_keyframe() -> None:
    pts = list(range(0, 10_000, 40))
    plans = _plan(pts, pts[::30], 2.0)  # a keyframe each 1.2 s: the nearest to 2 s is at 2.4 s

    assert _ranges(plans) == [(1, 60), (61, 120), (121, 180), (181, 250)]
    assert [plan.start for plan in plans] == [0.0, 2.4, 4.8, 7.2]
    assert plans[-1].end == 9.96


def test_times_count_from_the_first_picture() -> None:
    pts = [5000 + n * 100 for n in range(40)]
    assert [plan.start for plan in _plan(pts, pts[::10], 1.0)] == [0.0, 1.0, 2.0, 3.0]


def test_a_short_rest_joins_the_segment_before() -> None:
    pts = list(range(0, 2200, 100))
    assert _ranges(_plan(pts, pts, 2.0)) == [(1, 22)]


def test_a_gop_that_never_ends_is_cut() -> None:
    pts = list(range(0, 100_000, 100))
    plans = _plan(pts, [0], 1.0)

    assert {(plan.last_frame or 0) - plan.first_frame + 1 for plan in plans} == {40}


def test_a_keyframe_after_a_long_gap() -> None:
    pts = [0, 40, 80, 60_000, 60_040]
    assert _ranges(_plan(pts, [0, 60_000], 1.0)) == [(1, 3), (4, 5)]


_steps = st.lists(st.integers(1, 5000), min_size=0, max_size=120)


@given(_steps, st.sets(st.integers(0, 120)), st.floats(0.01, 30))
def test_indexed_segments_cover_every_frame_once(
    steps: list[int], keys: set[int], segment_seconds: float
) -> None:
    pts = [sum(steps[:i]) - 700 for i in range(len(steps) + 1)]
    keyframes = sorted({pts[0], *(pts[key] for key in keys if key < len(pts))})

    plans = _plan(pts, keyframes, segment_seconds)

    assert [plan.segment for plan in plans] == list(range(len(plans)))
    assert (plans[0].first_frame, plans[-1].last_frame) == (1, len(pts))
    assert all(after.first_frame == (before.last_frame or 0) + 1 for before, after in pairwise(plans))
    assert all((plan.last_frame or 0) >= plan.first_frame for plan in plans)


@given(st.integers(1, 5000), st.floats(1, 240), st.floats(0.01, 100))
def test_sequential_segments_are_contiguous_and_end_open(
    frames: int, rate: float, segment_seconds: float
) -> None:
    plans = plan_sequential(frames, rate, frames / rate, segment_seconds)

    assert plans[0].first_frame == 1 and plans[-1].last_frame is None
    assert all(after.first_frame == (before.last_frame or 0) + 1 for before, after in pairwise(plans))
    assert plans[-1].first_frame <= frames


def test_a_sequential_source_without_times() -> None:
    assert _ranges(plan_sequential(100, None, None, 2.0)) == [(1, 50), (51, None)]
