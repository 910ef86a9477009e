"""What an append expects of its stream (optimistic concurrency)."""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias


class StreamState(Enum):
    """An expectation that names no exact version."""

    ANY = "any"
    """No check at all."""
    NO_STREAM = "no_stream"
    """The stream was never written, or was deleted (not tombstoned)."""
    EXISTS = "exists"
    """The stream holds at least one event."""


ANY: Final = StreamState.ANY
NO_STREAM: Final = StreamState.NO_STREAM
EXISTS: Final = StreamState.EXISTS

ExpectedVersion: TypeAlias = int | StreamState
"""The stream position (from 0) of the last event the writer has seen, or a `StreamState`."""


def is_expected(expected: ExpectedVersion, version: int | None, *, holds_events: bool) -> bool:
    """Whether an append with `expected` may go on its stream.

    `version` is the position of the last event that the stream ever held (None: it was never written);
    `holds_events` is False after a delete.
    """
    if expected is ANY:
        return True
    if expected is NO_STREAM:
        return not holds_events
    if expected is EXISTS:
        return holds_events
    return expected == version
