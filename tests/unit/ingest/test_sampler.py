from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.ingest.sampler import Sampler


@given(st.integers(1, 50), st.integers(0, 60), st.integers(1, 12), st.sets(st.integers(1, 100)))
def test_it_takes_multiples_of_the_step_in_range(first: int, more: int, step: int, skip: set[int]) -> None:
    last = first + more - 1
    wanted = [n for n in range(first, last + 1) if n % step == 0 and n not in skip]

    sampler = Sampler(first, last, step, skip)

    assert [n for n in range(1, 130) if n in sampler] == wanted
    assert sampler.first == (wanted[0] if wanted else None)
    assert sampler.last == (wanted[-1] if wanted else None)
    assert sampler.missing(wanted[::2], last) == tuple(wanted[1::2])


def test_a_range_without_an_end() -> None:
    sampler = Sampler(7, None, 5, {10})

    assert (sampler.first, sampler.last) == (15, None)
    assert 100_000 in sampler and 10 not in sampler
    assert sampler.missing([15, 25], 32) == (20, 30)
    assert sampler.missing([], None) == ()


@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 0)])
def test_numbers_and_steps_start_at_one(first: int, step: int) -> None:
    with pytest.raises(ValueError, match="both start at 1"):
        Sampler(first, None, step)
