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
