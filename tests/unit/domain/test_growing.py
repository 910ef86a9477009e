from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.growing import Growing, Numbers


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=6))
def test_a_growing_sequence_is_its_parts(parts: list[list[int]]) -> None:
    grown: Growing[int] = Growing()
    for part in parts:
        grown = grown.plus(part)
    expected = [item for part in parts for item in part]
    assert list(grown) == expected
    assert len(grown) == len(expected)
    assert grown[-2:] == expected[-2:]


@given(st.lists(st.integers(), max_size=5), st.lists(st.integers()), st.lists(st.integers()))
def test_versions_never_see_each_others_ends(beginning: list[int], one: list[int], other: list[int]) -> None:
    first = Growing(beginning)
    longer, another = first.plus(one), first.plus(other)
    assert list(first) == beginning
    assert list(longer) == beginning + one
    assert list(another) == beginning + other
    assert (longer == another) == (one == other)


def test_a_growing_sequence_ends_where_it_says() -> None:
    short = Growing([1, 2])
    assert list(short.plus([3])) == [1, 2, 3]
    with pytest.raises(IndexError):
        short[2]
    assert (short[-1], short[0:5], 3 in short) == (2, [1, 2], False)


@given(st.lists(st.lists(st.integers(0, 40)), max_size=5))
def test_numbers_are_a_set(parts: list[list[int]]) -> None:
    numbers, expected = Numbers(), set[int]()
    for part in parts:
        before = numbers
        numbers = numbers.plus(part)
        assert list(before) == sorted(expected)
        expected |= set(part)
    assert list(numbers) == sorted(expected)
    assert len(numbers) == len(expected)
    assert all((n in numbers) == (n in expected) for n in range(-1, 42))
