"""A small decider for the tests: a counter with a ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from eventsourcing.codec import EventCodec


class Added(msgspec.Struct, frozen=True):
    amount: int


class Closed(msgspec.Struct, frozen=True):
    total: int


CounterEvent: TypeAlias = Added | Closed


class Add(msgspec.Struct, frozen=True):
    """Add one by one; nothing for an amount of 0."""

    amount: int


class Close(msgspec.Struct, frozen=True):
    pass


class FullError(Exception):
    pass


class Counter:
    """Counts to 100 at most."""

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: CounterEvent) -> int:
        return state + event.amount if isinstance(event, Added) else state

    def decide(self, state: int, command: Add | Close) -> Sequence[CounterEvent]:
        if isinstance(command, Close):
            return [Closed(state)]
        if state + command.amount > 100:
            raise FullError(f"{state} and {command.amount} are more than 100")
        return [Added(1) for _ in range(command.amount)]


CODEC = EventCodec([Added, Closed])
