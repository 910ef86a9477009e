"""Errors of decoding.

IngestError
├── SourceError        the file cannot be analysed; says why and what would be right
└── DecoderDiedError   the decoder process ended or fell silent; another try may help
"""

from __future__ import annotations


class IngestError(Exception):
    """Root of what decoding raises."""


class SourceError(IngestError):
    """The source cannot be read. `reason` is for users; `permanent`: trying again cannot help."""

    def __init__(self, reason: str, *, permanent: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class DecoderDiedError(IngestError):
    """The decoder process crashed, was killed, or said nothing for too long."""
