"""Times that go on where 32 bits of milliseconds (49.7 days) overflow."""

from __future__ import annotations

from typing import Final

_BITS: Final = 1 << 32
_HALF: Final = 1 << 31


class Unwrapper:
    """Each time is taken for the one nearest to the time before it."""

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, timestamp: int) -> int:
        """Milliseconds without a bound, for 32 bits of them."""
        if self._last is None:
            self._last = timestamp
        else:
            self._last += (timestamp - self._last + _HALF) % _BITS - _HALF
        return self._last
