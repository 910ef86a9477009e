"""How fast a source with an end gives its pictures: one that hardly does would hold its place for ever."""

from __future__ import annotations

from typing import Final

from monolith.ingest.errors import SourceError

PERIOD: Final = 600.0
SLOWEST: Final = 0.1
"""Seconds of media in a second of waiting, over a period."""


class Pace:
    """Counts only the seconds in which the source is waited for: how long the analysis takes is not its fault."""

    def __init__(self, total: float) -> None:
        """`total`: seconds for which it may be waited in all."""
        self._allowed = total
        self._waited = self._in_period = 0.0
        self._newest: float | None = None
        self._at_start = 0.0

    def reached(self, timestamp: float) -> None:
        """A picture came, at `timestamp` seconds of media."""
        if self._newest is None:
            self._at_start = timestamp
        self._newest = timestamp

    def waited(self, seconds: float) -> None:
        """Raises SourceError when it was too much."""
        self._waited += seconds
        self._in_period += seconds
        if self._waited > self._allowed:
            raise SourceError(
                f"the source was waited for longer than {self._allowed:g} s (VIDEO_ANALYSIS_FETCH_TIMEOUT)"
            )
        if self._in_period >= PERIOD:
            self._end_period()

    def _end_period(self) -> None:
        newest = self._at_start if self._newest is None else self._newest
        given = newest - self._at_start
        if given < SLOWEST * self._in_period:
            raise SourceError(
                f"the source is too slow: it gave {given:.1f} s of pictures in {self._in_period:.0f} s of waiting, "
                f"less than {SLOWEST:.0%} of the time that they show"
            )
        self._at_start, self._in_period = newest, 0.0
