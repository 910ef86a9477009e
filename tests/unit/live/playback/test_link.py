from __future__ import annotations

from collections.abc import Iterator

import pytest

from monolith.live.playback.link import (
    FASTEST,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PROVEN_SECONDS,
    Level,
    Quality,
)


class Viewer:
    """Gets pictures at `rate` bits/s over ten times a second, from 0.0 s on; reports once a second."""

    def __init__(self, rate: int = 4_000_000) -> None:
        self.quality = Quality(0.0)
        self.rate = rate
        self.small = True
        self.now = 0.0

    def watch(self, seconds: float, *, loss: float = 0.0, estimates: Iterator[int] | None = None) -> Level:
        """The level after `seconds`."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.quality.evidence.sent(self.rate // 80, self.now)
            if round(self.now * 10) % 10 == 0:
                self.quality.evidence.reported(loss, self.now)
                if estimates is not None:
                    self.quality.evidence.estimated(next(estimates), self.now)
            self.quality.judge(self.now, small=self.small)
        return self.quality.level

    def until(self, level: Level, *, loss: float = 0.0) -> float:
        """Seconds until it is so."""
        before = self.now
        while self.quality.level is not level:
            assert self.now - before < 2 * LONGEST_PAUSE
            self.watch(0.1, loss=loss)
        return self.now - before


@pytest.fixture
def viewer() -> Viewer:
    return Viewer()


@pytest.mark.parametrize("loss", [0.0, 0.03, 0.09])
def test_packets_that_can_be_sent_again_are_no_reason(viewer: Viewer, loss: float) -> None:
    assert viewer.watch(60, loss=loss) is Level.FULL


def test_many_lost_packets_lead_to_less_and_less(viewer: Viewer) -> None:
    assert viewer.until(Level.SMALL, loss=0.4) <= 5
    assert viewer.quality.reason == "40% of the packets are lost"
    assert viewer.until(Level.KEYFRAMES, loss=0.4) <= 5
    assert viewer.quality.steps_down == 2


def test_one_bad_report_is_no_reason(viewer: Viewer) -> None:
    viewer.watch(10)
    viewer.watch(1, loss=0.6)
    assert viewer.watch(10) is Level.FULL


def test_where_smaller_pictures_are_not_less_keyframes_alone_are(viewer: Viewer) -> None:
    viewer.small = False
    viewer.until(Level.KEYFRAMES, loss=0.4)
    assert viewer.until(Level.FULL) == pytest.approx(FIRST_PAUSE, abs=0.2)


def test_an_estimate_that_falls_far_below_what_is_sent(viewer: Viewer) -> None:
    estimates = iter([6_000_000] * 4 + [2_000_000, 1_900_000, 1_500_000, 1_200_000, 1_000_000, 900_000])
    assert viewer.watch(8, estimates=estimates) is Level.SMALL
    assert "kb/s of 4" in viewer.quality.reason


def test_an_estimate_that_grows_from_little_is_no_reason(viewer: Viewer) -> None:
    """What a browser says after a time in which it got less."""
    assert viewer.watch(30, estimates=iter(range(600_000, 4_000_000, 100_000))) is Level.FULL


@pytest.mark.parametrize(("loss", "level"), [(0.0, Level.FULL), (0.05, Level.SMALL)])
def test_pictures_lost_in_one_second_after_another(viewer: Viewer, loss: float, level: Level) -> None:
    for _ in range(10):
        viewer.watch(1, loss=loss)
        viewer.quality.evidence.pictures_lost(viewer.now)
        if viewer.quality.level is not Level.FULL:
            break
    assert viewer.quality.level is level


def test_more_is_tried_after_pauses_that_grow(viewer: Viewer) -> None:
    pauses = []
    viewer.until(Level.SMALL, loss=0.4)
    for _ in range(6):
        pauses.append(viewer.until(Level.FULL))
        assert viewer.until(Level.SMALL, loss=0.4) < 3
    assert pauses == pytest.approx([20, 40, 80, 160, 240, 240], abs=0.3)


def test_a_level_that_held_begins_with_a_short_pause_again(viewer: Viewer) -> None:
    viewer.until(Level.SMALL, loss=0.4)
    viewer.until(Level.FULL)
    viewer.until(Level.SMALL, loss=0.4)
    viewer.until(Level.FULL)
    viewer.watch(PROVEN_SECONDS + 1)
    viewer.until(Level.SMALL, loss=0.4)
    assert viewer.until(Level.FULL) == pytest.approx(FIRST_PAUSE, abs=0.3)


def test_packets_are_spread_over_time_where_some_get_lost(viewer: Viewer) -> None:
    viewer.watch(5)
    assert viewer.quality.pace(viewer.now, 4e6) == FASTEST
    viewer.watch(1, loss=0.05)
    assert viewer.quality.pace(viewer.now, 4e6) == pytest.approx(6e6)
    assert viewer.quality.pace(viewer.now, 0) == pytest.approx(6e6, rel=0.1)
    viewer.watch(11)
    assert viewer.quality.pace(viewer.now, 4e6) == FASTEST
