"""Errors of decoding, as kinds of the two failures that the application knows.

SourceFailure
└── SourceError            the file cannot be analysed; says why and what would be right
RetryableFailure
├── DecodingFailedError    a disk or memory ran out, or a file could not be read just now
└── DecoderDiedError       the decoder process ended or fell silent
"""

from __future__ import annotations

from monolith.application.errors import RetryableFailure, SourceFailure


class SourceError(SourceFailure):
    """The source cannot be read, and trying again cannot help. The text is for users."""


class DecodingFailedError(RetryableFailure):
    """The machine failed the decoder, not the source."""


class DecoderDiedError(RetryableFailure):
    """The decoder process crashed, was killed, said nothing for too long, or broke the protocol."""
