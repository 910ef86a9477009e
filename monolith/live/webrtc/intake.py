"""How much a peer may send, where next to nothing is expected of it."""

from __future__ import annotations


class Intake:
    """Bytes that may come: `rate` a second, and up to `credit` at once. `exceeded`: whether more came."""

    def __init__(self, rate: float, credit: float) -> None:
        self.exceeded = False
        self._rate = rate
        self._credit = self._left = credit
        self._at: float | None = None

    def takes(self, size: int, now: float) -> bool:
        """Whether `size` bytes are let in. `now`: seconds of any clock that only grows."""
        since = 0.0 if self._at is None else now - self._at
        self._left, self._at = min(self._credit, self._left + since * self._rate), now
        if size > self._left:
            self.exceeded = True
            return False
        self._left -= size
        return True
