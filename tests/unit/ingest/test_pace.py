from __future__ import annotations

import pytest

from monolith.ingest.errors import SourceError
from monolith.ingest.pace import PERIOD, SLOWEST, Pace

GIVEN = 1.01 * SLOWEST * PERIOD


def test_a_source_that_keeps_pace_may_take_its_whole_time() -> None:
    pace = Pace(total=10 * PERIOD)
    for period in range(10):
        pace.reached(100 + period * GIVEN)
        pace.waited(PERIOD / 2)
        pace.reached(100 + (period + 1) * GIVEN)
        pace.waited(PERIOD / 2)
    with pytest.raises(SourceError, match="longer than 6000 s") as caught:
        pace.waited(0.1)
    assert caught.value.permanent


def test_one_that_hardly_gives_pictures_is_too_slow() -> None:
    pace = Pace(total=1e6)
    pace.reached(50.0)
    with pytest.raises(
        SourceError, match=r"too slow: it gave 9\.0 s of pictures in 600 s of waiting, less than 10%"
    ):
        for second in range(1, 601):
            pace.reached(50 + second * 0.015)
            pace.waited(1.0)


def test_what_was_given_fast_at_first_counts_for_its_own_period_alone() -> None:
    pace = Pace(total=1e6)
    pace.reached(0.0)
    pace.reached(3600.0)
    pace.waited(PERIOD)
    with pytest.raises(SourceError, match=r"it gave 0\.0 s of pictures"):
        pace.waited(PERIOD)


def test_no_picture_at_all_is_no_pace() -> None:
    with pytest.raises(SourceError, match="too slow"):
        Pace(total=1e6).waited(PERIOD)
