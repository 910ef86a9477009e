from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monolith.webhooks.watermark import Watermark


def places(mark: Watermark) -> tuple[int | None, int]:
    return mark.position, mark.pending


def test_it_stays_before_what_is_not_done() -> None:
    assert Watermark(None).position is None
    mark = Watermark(2)
    mark.pass_over(3)
    mark.begin(5)
    mark.pass_over(6)
    mark.begin(9)
    assert places(mark) == (3, 2)
    mark.done(9)
    assert places(mark) == (3, 1)
    mark.done(5)
    assert places(mark) == (9, 0)
    mark.pass_over(7)
    assert places(mark) == (9, 0)


@given(st.lists(st.booleans(), min_size=1), st.randoms(use_true_random=False))
def test_everything_up_to_it_is_done_and_it_never_falls(wanted: list[bool], chance: object) -> None:
    mark, pending, before = Watermark(0), [], 0
    for position, begins in enumerate(wanted, start=1):
        if begins:
            mark.begin(position)
            pending.append(position)
        else:
            mark.pass_over(position)
        if pending and chance.random() < 0.5:  # type: ignore[attr-defined]
            mark.done(pending.pop(chance.randrange(len(pending))))  # type: ignore[attr-defined]
        assert mark.position is not None
        assert before <= mark.position < min(pending, default=position + 1)
        before = mark.position
