from __future__ import annotations

import pytest

from monolith.live.followed.times import PacketClock, Spread


def test_times_are_the_sources_own_in_whole_milliseconds() -> None:
    clock = PacketClock()
    thirtieths = [number * 1001 / 30_000 for number in range(4)]
    assert [clock.at(one, one, 0.0) for one in thirtieths] == [(0, 0), (33, 33), (67, 67), (100, 100)]


def test_what_is_decoded_before_it_is_shown_keeps_its_distance_and_begins_at_zero() -> None:
    clock = PacketClock()
    given = [clock.at(pts, dts, 0.0) for pts, dts in ((0.0, -0.08), (0.12, -0.04), (0.04, 0.0))]
    assert given == [(80, 0), (200, 40), (120, 80)]


def test_a_packet_without_times_comes_when_it_comes() -> None:
    clock = PacketClock()
    assert clock.at(None, None, 0.0) == (0, 0)
    assert clock.at(0.0, 0.0, 0.1) == (0, 0)
    assert clock.at(None, None, 0.1) == (100, 100)


def test_without_decoding_times_pictures_out_of_order_are_no_break() -> None:
    clock = PacketClock()
    given = [clock.at(pts, None, 0.0) for pts in (1.0, 1.12, 1.04, 1.08, 1.24)]
    assert [shown for shown, _ in given] == [1000, 1120, 1040, 1080, 1240]
    assert [decoded for _, decoded in given] == [1000, 1120, 1120, 1120, 1240]


@pytest.mark.parametrize("later", [0.0, 95_000.0], ids=["back", "far ahead"])
def test_a_break_is_closed_by_the_step_before_it(later: float) -> None:
    clock = PacketClock()
    for number in range(5):
        clock.at(10 + number * 0.05, 10 + number * 0.05, 0.0)
    assert clock.at(later, later, 0.0) == (10_250, 10_250)
    assert clock.at(later + 0.05, later + 0.05, 0.0) == (10_300, 10_300)


def test_a_break_lasts_as_long_as_it_was_waited() -> None:
    clock = PacketClock()
    clock.at(10.0, 10.0, 0.0)
    clock.break_off()
    assert clock.at(11.0, 11.0, 2.5) == (12_500, 12_500)


def test_times_of_pictures_are_found_by_their_pts_the_newest_of_them() -> None:
    clock = PacketClock()
    for pts in range(3000):
        clock.note(pts, pts * 2)
    clock.note(2999, 7)
    assert (clock.of(2500), clock.of(2999), clock.of(0)) == (5000, 7, None)


def bursts(spread: Spread, segments: int, seconds: float, rate: int = 10) -> list[tuple[float, float]]:
    """(media time, due) of packets that come `seconds` at a time, each burst when it is complete."""
    return [
        (number / rate, spread.due(number / rate, segment * seconds))
        for segment in range(segments)
        for number in range(round(segment * seconds * rate), round((segment + 1) * seconds * rate))
    ]


def test_bursts_are_due_as_far_apart_as_they_show() -> None:
    given = bursts(Spread(), 5, 2.0)
    assert all(due == pytest.approx(media) for media, due in given)


def test_what_is_late_makes_all_that_follows_as_late() -> None:
    spread = Spread()
    assert spread.due(0.0, 100.0) == 100.0
    assert spread.due(1.0, 103.0) == 103.0
    assert spread.due(2.0, 103.1) == pytest.approx(104.0)


def test_waiting_that_need_not_be_is_made_good() -> None:
    spread = Spread()
    spread.due(0.0, 0.0)
    spread.due(1.0, 6.0)  # five seconds late, once
    waited = [spread.due(media, float(media)) - media for media in range(7, 200)]
    assert waited[0] == pytest.approx(5.0)
    assert waited[-1] == pytest.approx(0.0, abs=0.6)
    assert waited == sorted(waited, reverse=True)


def test_nothing_is_due_later_than_the_most() -> None:
    spread = Spread()
    assert max(spread.due(float(media), 0.0) for media in range(60)) == Spread.MOST_SECONDS
