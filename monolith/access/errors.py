"""Errors of access that end a start or a command.

AccessError
├── KeyFileError      the file of API keys cannot be read or changed (`key_file`)
├── TlsError          certificate or key cannot be used (`tls`)
└── NoKeyError        others could ask, and nobody could be let in (`startup`)

`keys.CredentialError` is none of them: it refuses a single request.
"""

from __future__ import annotations


class AccessError(Exception):
    """The text says what is wrong and what would be right."""
