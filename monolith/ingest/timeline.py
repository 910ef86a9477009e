"""When pictures of a followed source are, and where its segments end."""

from __future__ import annotations

from typing import Final

_FALLBACK_RATE: Final = 25.0
_LONGEST_JUMP: Final = 60.0
"""Seconds between two pictures, live: besides the time that passed; more is a break in the source's timestamps."""
_LONGEST_STEP: Final = 1.0
"""Seconds; pictures further apart have a gap between them, and do not show how long one of them lasts."""
_HARD_CUT: Final = 1.25
_ALMOST: Final = 0.99
"""Timestamps are rounded, and a keyframe that comes a hair too early must not make the segment a quarter longer."""


class Timeline:
    """Timestamps of the pictures of a sequential source, in seconds; they never go back, and live they always grow.

    They are the source's own (pts × time base, the first one taken as it is), until those break: go back, or jump ahead
    by more than a minute (a restart, a splice, an overflow). A break is closed: what follows goes on one picture later,
    or, live, as much later as it came. A picture that has no timestamp comes one picture after the one before. The same
    bytes give the same timestamps, whether they are read from a file or as they arrive.

    `start`: where the first picture is; None: where its own timestamp says.
    """

    def __init__(self, start: float | None, *, live: bool) -> None:
        self._start = start
        self._live = live
        self._shift: float | None = None
        self._own: float | None = None
        self._last: float | None = None
        self._step: float | None = None
        self._arrived = 0.0

    def at(self, own: float | None, arrived: float, rate: float | None) -> float:
        """The timestamp of the next picture. `own`: as the source says (None: nothing); `arrived`: when it came,
        seconds of a steady clock; `rate`: pictures a second as it says (None: nothing), used until two of
        them have shown it."""
        timestamp = self._next(own, arrived, self._step or 1 / (rate or _FALLBACK_RATE))
        if own is not None:
            self._own, self._shift = own, timestamp - own
        self._last, self._arrived = timestamp, arrived
        return timestamp

    def _next(self, own: float | None, arrived: float, step: float) -> float:
        if self._last is None:
            return self._start if self._start is not None else own or 0.0
        waited = max(arrived - self._arrived, 0.0) if self._live else 0.0
        if own is not None and self._own is not None and self._shift is not None:
            if own == self._own and not self._live:
                return self._last
            ahead = own + self._shift - self._last
            if 0 < ahead <= waited + _LONGEST_JUMP:
                self._step = ahead if ahead <= _LONGEST_STEP else self._step
                return own + self._shift
        return self._last + max(step, waited)

    def break_off(self) -> None:
        """The next picture's own timestamp has nothing to do with those before."""
        self._own = None


class Cutter:
    """Segments of `seconds` of media: cut at the first keyframe after so long, without one after a quarter more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start: float | None = None

    def is_cut_before(self, timestamp: float, *, keyframe: bool) -> bool:
        """Whether the picture at `timestamp` opens a new segment. To be asked once for each picture, in order."""
        if self._start is None:
            self._start = timestamp
            return False
        held = (timestamp - self._start) / self._seconds
        if held < (_ALMOST if keyframe else _HARD_CUT):
            return False
        self._start = timestamp
        return True


class Pacer:
    """Spreads pictures that come in bursts (a segment at once) over the time that they show, so that models have it to
    judge them. A little faster than that time, to catch up after a burst at the start.

    Where pictures come late, those after them are late by as much.
    """

    SPEED: Final = 1.25

    def __init__(self, speed: float = SPEED) -> None:
        self._speed = speed
        self._due = 0.0
        self._last: float | None = None

    def delay(self, timestamp: float, now: float) -> float:
        """Seconds for which the picture at `timestamp` (seconds of media) is early at `now` (of a steady clock)."""
        if self._last is None:
            self._due = now
        else:
            self._due = max(now, self._due + (timestamp - self._last) / self._speed)
        self._last = timestamp
        return self._due - now
