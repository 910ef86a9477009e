from __future__ import annotations

import pytest

from monolith.ingest.timeline import Cutter, Pacer, Timeline

RATE = 25.0


def test_timestamps_of_a_source_with_an_end_are_its_own() -> None:
    line = Timeline(None, live=False)
    assert [line.at(own, 0.0, RATE) for own in (1.4, 1.44, 31.0)] == [1.4, 1.44, 31.0]


def test_live_timestamps_count_from_their_start() -> None:
    line = Timeline(7.0, live=True)
    found = [line.at(own, arrived, RATE) for own, arrived in ((500.0, 0.0), (500.04, 0.1), (500.08, 0.1))]
    assert found == pytest.approx([7.0, 7.04, 7.08])


@pytest.mark.parametrize("jump", [-400.0, 3600.0])
def test_a_break_in_the_source_is_closed(jump: float) -> None:
    line = Timeline(None, live=False)
    line.at(400.0, 0.0, RATE)
    assert line.at(400.0 + jump, 0.0, RATE) == pytest.approx(400.04)
    assert line.at(400.04 + jump, 0.0, RATE) == pytest.approx(400.08)


def test_after_a_break_comes_a_picture_as_long_as_those_before() -> None:
    line = Timeline(None, live=False)
    found = [line.at(own, 0.0, None) for own in (9.0, 9.02, 39.02, 0.0, 0.02)]
    assert found == pytest.approx([9.0, 9.02, 39.02, 39.04, 39.06])


def test_timestamps_that_repeat_are_kept_but_live() -> None:
    repeated = (1.0, 1.0, 1.04, 1.04, 1.08)
    line = Timeline(None, live=False)
    assert [line.at(own, 0.0, RATE) for own in repeated] == list(repeated)
    line = Timeline(0.0, live=True)
    times = [line.at(own, 0.0, RATE) for own in repeated]
    assert times == sorted(set(times))


def test_a_live_break_takes_as_long_as_it_took() -> None:
    line = Timeline(0.0, live=True)
    line.at(100.0, 50.0, RATE)
    assert line.at(3.0, 54.0, RATE) == pytest.approx(4.0)
    assert line.at(3.04, 54.04, RATE) == pytest.approx(4.04)


def test_a_long_silence_of_a_live_source_is_no_break() -> None:
    line = Timeline(0.0, live=True)
    line.at(100.0, 0.0, RATE)
    assert line.at(400.0, 301.0, RATE) == pytest.approx(300.0)


def test_pictures_without_timestamps_follow_at_the_rate() -> None:
    line = Timeline(None, live=False)
    assert [line.at(None, 0.0, 10.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    line = Timeline(0.0, live=True)
    assert [line.at(None, arrived, 10.0) for arrived in (5.0, 5.5, 5.5)] == pytest.approx([0.0, 0.5, 0.6])


def test_a_first_picture_without_timestamp_takes_none_from_the_second() -> None:
    line = Timeline(0.0, live=True)
    assert [line.at(own, 0.0, RATE) for own in (None, 90.0, 90.04)] == pytest.approx([0.0, 0.04, 0.08])


def test_after_a_break_that_is_known_nothing_is_compared() -> None:
    line = Timeline(None, live=False)
    line.at(10.0, 0.0, RATE)
    line.break_off()
    assert line.at(20.0, 0.0, RATE) == pytest.approx(10.04)
    assert line.at(20.04, 0.0, RATE) == pytest.approx(10.08)


def cuts(seconds: float, pictures: list[tuple[float, bool]]) -> list[float]:
    cutter = Cutter(seconds)
    return [time for time, keyframe in pictures if cutter.is_cut_before(time, keyframe=keyframe)]


def test_segments_are_cut_at_keyframes() -> None:
    assert cuts(4.0, [(float(n), n % 3 == 0) for n in range(20)]) == [5.0, 9.0, 14.0, 18.0]
    assert cuts(4.0, [(float(n), n % 2 == 0) for n in range(13)]) == [4.0, 8.0, 12.0]


def test_a_keyframe_that_is_a_hair_early_counts() -> None:
    assert cuts(4.0, [(0.0, True), (3.97, True), (4.1, False)]) == [3.97]


def test_without_a_keyframe_the_cut_is_hard() -> None:
    assert cuts(4.0, [(n / 2, False) for n in range(24)]) == [5.0, 10.0]


def test_a_burst_is_spread() -> None:
    pacer = Pacer()
    delays = [pacer.delay(n * 0.1, now=50.0) for n in range(4)]
    assert delays == pytest.approx([n * 0.1 / Pacer.SPEED for n in range(4)])


def test_pictures_that_come_in_time_are_not_delayed() -> None:
    pacer = Pacer()
    assert [pacer.delay(n * 0.1, now=50.0 + n * 0.1) for n in range(4)] == [0.0] * 4


def test_lateness_is_kept() -> None:
    pacer = Pacer()
    pacer.delay(0.0, now=0.0)
    assert pacer.delay(1.0, now=5.0) == 0.0
    assert pacer.delay(2.0, now=5.0) == pytest.approx(1 / Pacer.SPEED)
