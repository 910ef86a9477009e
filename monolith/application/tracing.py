"""Traces: which steps one request leads to, however many tasks, processes and copies of the program they are done in.

A trace is named by a W3C `traceparent` (https://www.w3.org/TR/trace-context/). It travels in the metadata of events
under that name, so that what is done because of an event belongs to the trace of who caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from monolith.domain.jobs import Job

TRACEPARENT: Final = "traceparent"
_TRACE_ID: Final = slice(3, 35)
"""Where it stands in a traceparent."""
Attributes: TypeAlias = Mapping[str, str | int]
"""What is known of a step. Never a secret: traces go to another program."""
NOTHING: Final[Attributes] = MappingProxyType({})
JobScope: TypeAlias = Callable[[Job], AbstractAsyncContextManager[None]]
"""What surrounds the work on a job."""


class Span(Protocol):
    """A step at work."""

    def tell(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        """Its name and more about it, where that is known late."""
        ...


class Tracing(Protocol):
    """Makes spans. What fails inside is told by its span and raised on."""

    def span(self, name: str, attributes: Attributes = NOTHING) -> AbstractContextManager[Span]:
        """A step of what this task is at."""
        ...

    def continued(
        self, traceparent: str, name: str, attributes: Attributes = NOTHING, *, others: Sequence[str] = ()
    ) -> AbstractContextManager[Span]:
        """A step of what `traceparent` names, whatever this task is at; without one ("") it begins a trace. `others`:
        traceparents of what the step is for, too."""
        ...

    def here(self) -> str:
        """The traceparent of the span that this task is in; "" outside of any."""
        ...


def trace_id_of(traceparent: str) -> str | None:
    """The part of it that all steps of a trace share. None where there is none."""
    return traceparent[_TRACE_ID] or None


class _NoSpan:
    def tell(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        pass


_NO_SPAN: Final = nullcontext(_NoSpan())


class NoTracing:
    """No traces are wanted."""

    def span(self, name: str, attributes: Attributes = NOTHING) -> AbstractContextManager[Span]:
        return _NO_SPAN

    def continued(
        self, traceparent: str, name: str, attributes: Attributes = NOTHING, *, others: Sequence[str] = ()
    ) -> AbstractContextManager[Span]:
        return _NO_SPAN

    def here(self) -> str:
        return ""


def untraced(job: Job) -> AbstractAsyncContextManager[None]:
    """A `JobScope` that adds nothing."""
    return nullcontext()
