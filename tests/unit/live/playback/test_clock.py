from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.live.playback.clock import HURRY_TICKS, ViewerClock, milliseconds

FRAME = CLOCK_RATE // 25


def packets(numbers: range) -> list[LivePacket]:
    return [LivePacket(VideoFormat("vp8"), b"", n * FRAME, n * FRAME, n == numbers[0], 0.0) for n in numbers]


def test_pictures_that_come_keep_their_distances() -> None:
    clock = ViewerClock()
    clock.begin([], 0.0)
    assert [clock.ticks(pts) for pts in (9000, 12600, 20000)] == [0, 3600, 11000]


def test_a_group_that_is_past_is_hurried_through() -> None:
    clock = ViewerClock()
    past = packets(range(10, 15))
    clock.begin(past, 0.0)
    ticks = [clock.ticks(one.pts) for one in past]
    assert {later - earlier for earlier, later in itertools.pairwise(ticks)} == {HURRY_TICKS}
    assert clock.ticks(15 * FRAME) == ticks[-1] + FRAME


def test_who_begins_anew_stays_in_time() -> None:
    clock = ViewerClock()
    clock.begin([], 0.0)
    for number in range(20):
        clock.ticks(number * FRAME)
    past = packets(range(10, 21))
    clock.begin(past, None)
    again = [clock.ticks(one.pts) for one in past]
    assert again[0] > 19 * FRAME
    assert again[-1] == 20 * FRAME
    assert clock.ticks(21 * FRAME) == 21 * FRAME


def test_another_connection_goes_on_after_the_time_that_passed() -> None:
    clock = ViewerClock()
    clock.begin([], 0.0)
    clock.ticks(5 * FRAME)
    clock.ticks(6 * FRAME)
    clock.begin([], 2.0)
    assert clock.ticks(0) == FRAME + 2 * CLOCK_RATE + 1
    assert clock.of(milliseconds(6 * FRAME)) is None


def test_of_which_picture_a_time_is() -> None:
    clock = ViewerClock()
    clock.begin([], 0.0)
    sent = {milliseconds(number * 3003): clock.ticks(number * 3003) for number in range(50)}
    assert {time: clock.of(time) for time in sent} == sent
    assert clock.of(7) is None
    assert clock.is_past(0)
    assert not clock.is_past(milliseconds(49 * 3003))


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 40), st.none() | st.floats(0, 100)),
        min_size=1,
        max_size=8,
    )
)
def test_times_always_grow(readers: list[tuple[int, int, float | None]]) -> None:
    """Each reader: pictures that are past, pictures that come, and whether it reads another connection."""
    clock = ViewerClock()
    times: list[int] = []
    at = 0
    for number, (past, coming, elapsed) in enumerate(readers):
        group = packets(range(at, at + past)) if past else []
        clock.begin(group, elapsed if number else 0.0)
        times += [clock.ticks(n * FRAME) for n in range(at, at + past + coming)]
        at += coming
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert times[0] >= 0


def test_what_is_remembered_of_a_picture() -> None:
    clock = ViewerClock()
    past = packets(range(10, 15))
    clock.begin(past, 0.0)
    for one in past:
        clock.ticks(one.pts, arrived=float(one.pts))
    clock.ticks(15 * FRAME, arrived=7.5)
    assert [clock.in_step(milliseconds(number * FRAME)) for number in range(9, 17)] == [
        False, False, False, False, False, True, True, False
    ]  # fmt: skip
    assert clock.arrived(milliseconds(15 * FRAME)) == 7.5
    assert clock.arrived(milliseconds(16 * FRAME)) is None
