from __future__ import annotations

import pytest

from eventsourcing.testing import given
from tests.unit.eventsourcing.counter import Add, Added, Close, Closed, Counter, FullError

COUNTER = Counter()


def test_what_holds_passes() -> None:
    assert given(COUNTER, Added(4)).when(Close()).then(Closed(4)) == 4
    assert given(COUNTER).when(Add(2)).then(Added(1), Added(1)) == 2
    assert given(COUNTER, Added(4)).when(Add(0)).then_nothing() == 4
    given(COUNTER, Added(100)).when(Add(1)).then_raises(FullError, "100 and 1")


def test_other_events_fail() -> None:
    with pytest.raises(AssertionError, match=r"decided\n  Closed\(total=4\)\nexpected\n  nothing"):
        given(COUNTER, Added(4)).when(Close()).then()
    with pytest.raises(AssertionError, match=r"expected\n  Added\(amount=2\)"):
        given(COUNTER).when(Add(2)).then(Added(2))


def test_errors_that_were_not_expected_fail() -> None:
    with pytest.raises(FullError):
        given(COUNTER).when(Add(101)).then(Added(101))
    with pytest.raises(FullError):
        given(COUNTER).when(Add(101)).then_raises(KeyError)
    with pytest.raises(AssertionError, match="FullError says '0 and 101 are more than 100', not 'empty'"):
        given(COUNTER).when(Add(101)).then_raises(FullError, "empty")
    with pytest.raises(AssertionError, match="expected FullError, decided"):
        given(COUNTER).when(Add(1)).then_raises(FullError)
