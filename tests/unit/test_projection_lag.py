"""How long a projection has been behind."""

from __future__ import annotations

from monolith.projection_lag import ProjectionLag
from monolith.readiness import LONGEST_LAG, lag_trouble


class World:
    def __init__(self) -> None:
        self.newest = self.projected = 0
        self.now = 100.0
        self.lag = ProjectionLag(lambda: self.newest, lambda: self.projected, lambda: self.now)


def test_level_is_no_lag_however_much_time_passes() -> None:
    world = World()
    world.now += 1000
    assert (world.lag.events(), world.lag.seconds()) == (0, 0.0)


def test_the_oldest_event_that_waits_counts() -> None:
    world = World()
    world.newest = 5
    assert world.lag.seconds() == 0.0
    world.now += 10
    world.newest = 9
    assert (world.lag.events(), world.lag.seconds()) == (9, 10.0)
    world.projected = 5  # those of then are there: what is behind now came later
    assert (world.lag.events(), world.lag.seconds()) == (4, 0.0)
    world.now += 3
    assert world.lag.seconds() == 3.0
    world.projected = 9
    assert world.lag.seconds() == 0.0


def test_a_projection_that_stands_still_is_trouble_after_a_while() -> None:
    world = World()
    world.newest = 7
    assert lag_trouble(world.lag) is None
    world.now += LONGEST_LAG
    assert lag_trouble(world.lag) is None
    world.now += 1
    assert lag_trouble(world.lag) == "the read models are 7 events behind, for 31 s: answers are that old"
