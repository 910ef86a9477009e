"""How far a consumer is that works on several events at once and ends them in any order."""

from __future__ import annotations


class Watermark:
    """`position`: everything up to it is done. Events come in the order of their commit positions."""

    def __init__(self, position: int | None) -> None:
        self._reached = position
        self._pending: dict[int, int | None] = {}
        """Commit position of an event that is not done → of the event before it."""

    @property
    def position(self) -> int | None:
        return next(iter(self._pending.values()), self._reached)

    @property
    def pending(self) -> int:
        """How many are not done."""
        return len(self._pending)

    def pass_over(self, commit_position: int) -> None:
        """Nothing is to be done up to there."""
        self._reached = max(commit_position, self._reached or 0)

    def begin(self, commit_position: int) -> None:
        self._pending[commit_position] = self._reached
        self._reached = commit_position

    def done(self, commit_position: int) -> None:
        self._pending.pop(commit_position)
