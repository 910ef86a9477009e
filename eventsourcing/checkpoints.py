"""How far a consumer without tables of its own has come (the relay, the process manager).

A projection needs none of this: its checkpoint lives with its rows.
"""

from __future__ import annotations

from typing import Protocol


class Checkpoints(Protocol):
    """Commit positions by consumer name."""

    async def load(self, name: str) -> int | None:
        """The position saved last; None before the first."""
        ...

    async def save(self, name: str, commit_position: int) -> None:
        """Durable when this returns. A position behind the saved one is ignored: two savers cannot go back."""
        ...


class MemoryCheckpoints:
    """The `Checkpoints` port over a dictionary."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    async def load(self, name: str) -> int | None:
        return self._positions.get(name)

    async def save(self, name: str, commit_position: int) -> None:
        self._positions[name] = max(commit_position, self._positions.get(name, commit_position))
