"""Which frames of a segment are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Sampler:
    """The frame numbers n of `first`…`last` (inclusive; last None: no end) with n % step == 0, but those in `skip`.

    Raises ValueError for a range or step that cannot be.
    """

    def __init__(self, first: int, last: int | None, step: int, skip: Collection[int] = ()) -> None:
        if first < 1 or step < 1:
            raise ValueError(f"first frame {first}, step {step}: both start at 1")
        self._last = last
        self._step = step
        self._skip = frozenset(skip)
        self.first = self._next(first)
        """The first wanted number; None when none is."""
        self.last = None if last is None else self._previous(last, first)
        """The last wanted number; None when none is, or there is no end."""

    def __contains__(self, number: int) -> bool:
        if self.first is None or number < self.first or (self._last is not None and number > self._last):
            return False
        return number % self._step == 0 and number not in self._skip

    def missing(self, seen: Iterable[int], upto: int | None) -> tuple[int, ...]:
        """Wanted numbers of at most `upto` (None: none) that are not in `seen`, ascending."""
        if self.first is None or upto is None:
            return ()
        end = upto if self._last is None else min(upto, self._last)
        return tuple(sorted(set(range(self.first, end + 1, self._step)) - self._skip - set(seen)))

    def _next(self, number: int) -> int | None:
        number += -number % self._step
        while number in self._skip:
            number += self._step
        return None if self._last is not None and number > self._last else number

    def _previous(self, number: int, first: int) -> int | None:
        number -= number % self._step
        while number in self._skip:
            number -= self._step
        return number if number >= first else None
