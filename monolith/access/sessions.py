"""Sessions of the web page: a signed cookie in place of a key, since pictures and event streams send no headers.

A cookie is `SESSION.KEY_ID.EXPIRES.MAC`: a random name, the id of the key that it stands for, seconds since 1970, and
an HMAC-SHA256 of the three. It holds no secret of the key. The signing secret is made anew at each start: a restart
ends all sessions.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from monolith.access.keys import CredentialError

MOST_ENDED: Final = 10_000
_PARTS: Final = 4
_LONGEST: Final = 200


class Sessions:
    """`lifetime` in seconds. Ended sessions are remembered until they would have expired; beyond `most_ended` of them
    all sessions end: the memory is bounded, and nobody who signed out is let in."""

    def __init__(
        self, lifetime: float, clock: Callable[[], float] = time.time, *, most_ended: int = MOST_ENDED
    ) -> None:
        self.lifetime = int(lifetime)
        self._clock = clock
        self._most_ended = most_ended
        self._secret = secrets.token_bytes(32)
        self._ended: dict[str, int] = {}

    def begin(self, key_id: str) -> str:
        """The cookie of a new session."""
        body = f"{secrets.token_hex(12)}.{key_id}.{int(self._clock()) + self.lifetime}"
        return f"{body}.{self._mac(body)}"

    def key_id(self, cookie: str) -> str:
        """Whose key the session stands for. Raises CredentialError."""
        session, key_id, expires = self._opened(cookie)
        if session in self._ended or expires <= self._clock():
            raise CredentialError("the session has ended; sign in again")
        return key_id

    def end(self, cookie: str) -> None:
        """The session lets nobody in from now on. Raises CredentialError for a cookie that is none of ours."""
        session, _, expires = self._opened(cookie)
        now = self._clock()
        self._ended = {name: until for name, until in self._ended.items() if until > now}
        self._ended[session] = expires
        if len(self._ended) > self._most_ended:
            self._secret = secrets.token_bytes(32)
            self._ended.clear()

    def _opened(self, cookie: str) -> tuple[str, str, int]:
        body, _, mac = cookie[:_LONGEST].rpartition(".")
        if not hmac.compare_digest(self._mac(body).encode(), mac.encode()):
            raise CredentialError("the session is not known here (any more); sign in again")
        session, key_id, expires = body.split(".")
        return session, key_id, int(expires)

    def _mac(self, body: str) -> str:
        mac = hmac.digest(self._secret, body.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")
