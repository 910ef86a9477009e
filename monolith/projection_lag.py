"""How far projections lie behind the event store, in events and in seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from eventsourcing.projection import ProjectionRunner

_INTERVAL: Final = 0.5
"""Seconds between two looks: how exact the seconds are."""


class ProjectionLag:
    """How long a projection has been behind. It knows as much as it is asked: a look is a sample.

    `newest`, `projected`: commit positions. A look that finds it level with where the newest event was at an earlier
    look knows that it has moved on since then.
    """

    def __init__(
        self,
        newest: Callable[[], int],
        projected: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._newest = newest
        self._projected = projected
        self._clock = clock
        self._behind: tuple[int, float] | None = None
        """A position that was not projected yet, and when that was seen."""

    def events(self) -> int:
        return max(0, self._newest() - self._projected())

    def seconds(self) -> float:
        """For how long, at least, an event has been waiting."""
        newest, projected, now = self._newest(), self._projected(), self._clock()
        if self._behind is not None and projected >= self._behind[0]:
            self._behind = None
        if self._behind is None and projected < newest:
            self._behind = (newest, now)
        return now - self._behind[1] if self._behind is not None else 0.0


class WatchedProjection:
    """A projection, its runner, and how far it is. `parked`: how many events could not be projected."""

    def __init__(
        self, runner: ProjectionRunner, newest: Callable[[], int], parked: Callable[[], int]
    ) -> None:
        self.name = runner.projection.name
        self.runner = runner
        self.parked = parked
        self.lag = ProjectionLag(newest, lambda: runner.position or 0)


async def watch(projections: Sequence[WatchedProjection]) -> None:
    """Look at all of them until cancelled."""
    while True:
        for one in projections:
            one.lag.seconds()
        await asyncio.sleep(_INTERVAL)
