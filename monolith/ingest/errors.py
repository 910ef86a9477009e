"""Errors of ingestion.

IngestError
├── SourceError        the source cannot be analysed; says why and what would be right
│   └── FetchError     what is behind a URL could not be had (`monolith.ingest.http_rules`)
└── DecoderDiedError   the decoder process ended or fell silent; another try may help
"""

from __future__ import annotations


class IngestError(Exception):
    """Root of what decoding raises."""


class SourceError(IngestError):
    """The request cannot be done. `reason` is for users; `permanent`: the source is at fault, trying again cannot help
    (else a disk or memory ran out, a connection broke, or the file could not be read just now)."""

    def __init__(self, reason: str, *, permanent: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class DecoderDiedError(IngestError):
    """The decoder process crashed, was killed, said nothing for too long, or broke the protocol."""
