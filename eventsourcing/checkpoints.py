"""How far a consumer without tables of its own has come (the relay, the process manager).

A projection needs none of this: its checkpoint lives with its rows.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from eventsourcing.versions import ANY

CHECKPOINT_PREFIX: Final = "checkpoint-"


class CheckpointSaved(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer is done with everything up to `commit_position`."""

    commit_position: int


_CODEC: Final = EventCodec([CheckpointSaved])


class Checkpoints(Protocol):
    """Commit positions by consumer name."""

    async def load(self, name: str) -> int | None:
        """The position saved last; None before the first."""
        ...

    async def save(self, name: str, commit_position: int) -> None:
        """Durable when this returns. A position behind the saved one is ignored: two savers cannot go back."""
        ...

    async def forget(self, name: str) -> None:
        """The consumer is gone for good."""
        ...


class MemoryCheckpoints:
    """The `Checkpoints` port over a dictionary."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    async def load(self, name: str) -> int | None:
        return self._positions.get(name)

    async def save(self, name: str, commit_position: int) -> None:
        self._positions[name] = max(commit_position, self._positions.get(name, commit_position))

    async def forget(self, name: str) -> None:
        self._positions.pop(name, None)


class StreamCheckpoints:
    """The `Checkpoints` port over the event store itself: whoever consumes next, on whichever machine, goes on there.

    Of each consumer two streams are written in turn, `checkpoint-{name}-0` and `-1`; the one that is full is deleted
    when the other holds something, so that they stay short and no moment is without a checkpoint. For one saver of a
    name at a time; two, for a moment, do no harm. Methods raise the store's errors.
    """

    def __init__(self, store: EventStore, *, most_events: int = 1000) -> None:
        self._store = store
        self._most_events = most_events
        self._saved: dict[str, int] = {}
        self._used: dict[str, tuple[int, int]] = {}
        """Name → which of its streams is written, and how often it was, as far as this object knows."""

    async def load(self, name: str) -> int | None:
        found = [await self._last(name, number) for number in (0, 1)]
        positions = [position for position in found if position is not None]
        if not positions:
            return None
        self._saved[name] = max(positions)
        self._used[name] = (found.index(max(positions)), self._most_events // 2)
        return self._saved[name]

    async def save(self, name: str, commit_position: int) -> None:
        if name not in self._saved:
            await self.load(name)
        if commit_position <= self._saved.get(name, -1):
            return
        number, count = self._used.get(name, (0, 0))
        turns = count >= self._most_events
        if turns:
            number, count = 1 - number, 0
        event = _CODEC.encode(CheckpointSaved(commit_position=commit_position))
        await self._store.append(_stream(name, number), [event], expected_version=ANY)
        self._saved[name] = commit_position
        self._used[name] = (number, count + 1)
        if turns:
            await self._store.delete_stream(_stream(name, 1 - number))

    async def forget(self, name: str) -> None:
        for number in (0, 1):
            await self._store.delete_stream(_stream(name, number))
        self._saved.pop(name, None)
        self._used.pop(name, None)

    async def _last(self, name: str, number: int) -> int | None:
        last = await self._store.read_stream(_stream(name, number), backwards=True, limit=1)
        saved = _CODEC.decode(last[0]) if last else None
        return saved.commit_position if isinstance(saved, CheckpointSaved) else None


def _stream(name: str, number: int) -> str:
    return f"{CHECKPOINT_PREFIX}{name}-{number}"
