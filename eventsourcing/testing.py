"""Given / when / then for deciders.

given(decider, VideoSubmitted(...)).when(RequestRun(...)).then(RunRequested(...))
given(decider).when(RequestRun(...)).then_raises(UnknownVideoError, "no such video")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from eventsourcing.decider import Decider

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=msgspec.Struct)


class Given(Generic[S, C, E]):
    """A decider in the state that some events made."""

    def __init__(self, decider: Decider[S, C, E], events: Sequence[E]) -> None:
        self._decider = decider
        self.state = decider.initial()
        for event in events:
            self.state = decider.evolve(self.state, event)

    def when(self, command: C) -> When[S, C, E]:
        """Decide `command`; what came of it is judged by the steps that follow."""
        try:
            return When(self._decider, self.state, tuple(self._decider.decide(self.state, command)), None)
        except Exception as error:
            return When(self._decider, self.state, (), error)


class When(Generic[S, C, E]):
    """What a command led to. One of the `then` steps must follow, or the test says nothing."""

    def __init__(
        self, decider: Decider[S, C, E], state: S, events: tuple[E, ...], error: Exception | None
    ) -> None:
        self._decider = decider
        self._state = state
        self._events = events
        self._error = error

    def then(self, *expected: E) -> S:
        """Exactly these events; returns the state after them. An error of the decider is raised as it was."""
        if self._error is not None:
            raise self._error
        if self._events != expected:
            raise AssertionError(f"decided\n  {_lines(self._events)}\nexpected\n  {_lines(expected)}")
        state = self._state
        for event in self._events:
            state = self._decider.evolve(state, event)
        return state

    def then_nothing(self) -> S:
        """No event: the command was already done."""
        return self.then()

    def then_raises(self, kind: type[Exception], match: str = "") -> None:
        """An error of this class, its text found by the regular expression `match`."""
        if self._error is None:
            raise AssertionError(f"expected {kind.__name__}, decided\n  {_lines(self._events)}")
        if not isinstance(self._error, kind):
            raise self._error
        if not re.search(match, str(self._error)):
            raise AssertionError(f"{kind.__name__} says {str(self._error)!r}, not {match!r}")


def given(decider: Decider[S, C, E], *events: E) -> Given[S, C, E]:
    """The decider after `events`."""
    return Given(decider, events)


def _lines(events: Sequence[object]) -> str:
    return "\n  ".join(map(repr, events)) or "nothing"
