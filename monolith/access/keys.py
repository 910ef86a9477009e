"""API keys: `va_` + id (8 characters) + `_` + secret (32) + check (7), in lower-case base32.

The id names the key in lists and logs. The secret has 160 random bits. The check is a CRC-32 of what stands before it:
a key that was mistyped or cut is told apart from one that is unknown. At rest there is a SHA-256 of the whole key and
no more: a slow hash protects secrets that people choose, which can be guessed; 160 random bits cannot be, at any speed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from datetime import datetime
from typing import Final

import msgspec

from monolith.access.scopes import Scope

PREFIX: Final = "va_"
_ID_BYTES: Final = 5
_SECRET_BYTES: Final = 20
_KEY: Final = re.compile(r"va_([a-z2-7]{8})_[a-z2-7]{32}([a-z2-7]{7})")
_CHECK_LENGTH: Final = 7
_ID: Final = re.compile(r"[a-z2-7]{8}")


class CredentialError(Exception):
    """A credential that lets nobody in; the text says why and holds nothing of it."""


class Presented(msgspec.Struct, frozen=True):
    """A well-formed key that someone has sent: its id, and the SHA-256 of all of it in hexadecimal."""

    key_id: str
    digest: str


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key. Times are UTC; `expires`, `revoked`: None where it never was or will be."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def trouble(self, now: datetime) -> str | None:
        """Why the key lets nobody in at `now`; None while it does."""
        if self.revoked is not None:
            return "this API key was revoked"
        if self.expires is not None and now >= self.expires:
            return f"this API key expired on {self.expires:%Y-%m-%d %H:%M} UTC"
        return None

    def matches(self, presented: Presented) -> bool:
        """Takes the same time wherever the difference is."""
        return hmac.compare_digest(self.digest, presented.digest)


def new_key() -> str:
    """A key, to be shown once."""
    body = f"{PREFIX}{_base32(secrets.token_bytes(_ID_BYTES))}_{_base32(secrets.token_bytes(_SECRET_BYTES))}"
    return body + _check(body)


def parse_key(text: str) -> Presented:
    """Raises CredentialError for what cannot be a key."""
    text = text.strip().lower()
    match = _KEY.fullmatch(text)
    if match is None:
        raise CredentialError(
            f"this is not an API key of this program: those are {PREFIX} and 48 more characters"
        )
    if match[2] != _check(text[:-_CHECK_LENGTH]):
        raise CredentialError("this API key was mistyped or cut: its last characters do not fit the others")
    return Presented(match[1], digest_of(text))


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def is_key_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _check(body: str) -> str:
    return _base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
