"""Errors of the toolkit.

EventStoreError
├── WrongExpectedVersionError   the stream has moved on; reload and decide again
├── StreamTombstonedError       the stream is gone for good
├── EventIdConflictError        an event id was used before for something else
├── AppendTooLargeError         the server takes fewer bytes at once
├── UnknownEventTypeError       the codec has no class for a stored event
├── EventDecodingError          a stored event does not fit its class
├── LeaseTakenError             another owner holds the lease
├── LeaseLostError              another owner has taken the lease
├── ProjectionStoppedError      a projection runner that was waited for does not run (any more)
└── StoreUnavailableError       the database is closed, full, or cannot be reached
"""

from __future__ import annotations

from eventsourcing.versions import ExpectedVersion


class EventStoreError(Exception):
    """Root of all errors that the toolkit raises."""


class WrongExpectedVersionError(EventStoreError):
    """The stream is not at the version that the append expected."""

    def __init__(self, stream_name: str, expected: ExpectedVersion, actual: int | None) -> None:
        super().__init__(f"stream {stream_name!r}: expected version {expected}, actual version {actual}")
        self.stream_name = stream_name
        self.expected = expected
        self.actual = actual


class StreamTombstonedError(EventStoreError):
    """The stream was tombstoned: it takes no event ever again."""

    def __init__(self, stream_name: str) -> None:
        super().__init__(f"stream {stream_name!r} is tombstoned")
        self.stream_name = stream_name


class EventIdConflictError(EventStoreError):
    """An event id of this append is already stored, but not as part of the same append."""


class AppendTooLargeError(EventStoreError):
    """The events of one append are more than the store takes at once: append fewer."""


class UnknownEventTypeError(EventStoreError):
    """No event class is registered under the stored type."""


class EventDecodingError(EventStoreError):
    """The stored bytes do not fit the registered event class."""


class LeaseTakenError(EventStoreError):
    """Another owner holds the lease: try again later."""


class LeaseLostError(EventStoreError):
    """Another owner holds the lease, or the fence token is no longer the newest."""


class ProjectionStoppedError(EventStoreError):
    """The projection runner has failed or was stopped: what was waited for will not come."""


class StoreUnavailableError(EventStoreError):
    """The store is closed, its disk is full, or its server cannot be reached."""
