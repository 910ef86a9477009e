"""What can go wrong with annotated videos; every text is for users.

AnnotatedError
├── NothingToShowError   nothing was analysed yet, or nothing in the wanted time
├── FramesExpiredError   frames that it would show were removed
├── VideoGoneError       the video was deleted
├── NoRoomError          the disk, or the room for such files, is full
├── EncoderError         the encoder process failed
└── TooManyError         too many wait already
"""

from __future__ import annotations


class AnnotatedError(Exception):
    """Root of this package's errors."""


class NothingToShowError(AnnotatedError):
    """There is no frame to show; `was_there`: there were some, before they expired."""

    def __init__(self, message: str, *, was_there: bool = False) -> None:
        super().__init__(message)
        self.was_there = was_there


class FramesExpiredError(AnnotatedError):
    def __init__(self) -> None:
        super().__init__(
            "frames expired: they were removed while the video was being made; ask again for what is left"
        )


class VideoGoneError(AnnotatedError):
    def __init__(self) -> None:
        super().__init__("the video was deleted")


class NoRoomError(AnnotatedError):
    """There is no room for the file."""


class EncoderError(AnnotatedError):
    """The encoder process died, or said that it failed."""


class TooManyError(AnnotatedError):
    """No place is left in the queue."""
