"""What a server needs to know who asks and how often they may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from monolith.access.key_ring import Identity, KeyRing
from monolith.access.rates import TokenBuckets
from monolith.access.sessions import Sessions

_SESSION_SECONDS: Final = 8 * 3600.0
_WRONG_EVERY: Final = 10.0
_WRONG_AT_ONCE: Final = 10


def wrong_keys() -> TokenBuckets:
    """For wrong keys of one address: ten at once, then one in ten seconds. Right ones from there are let in."""
    return TokenBuckets(1 / _WRONG_EVERY, _WRONG_AT_ONCE)


@dataclass(frozen=True, kw_only=True)
class AccessControl:
    """`keys`: None where no key is asked for. `requests`: of a key or an address; None: no limit. `https`: browsers
    reach the server by it; `hsts`: they may be told to use nothing else for its name."""

    keys: KeyRing | None = None
    sessions: Sessions = field(default_factory=lambda: Sessions(_SESSION_SECONDS))
    requests: TokenBuckets | None = None
    failures: TokenBuckets = field(default_factory=wrong_keys)
    https: bool = False
    hsts: bool = False
    cors_origins: tuple[str, ...] = ()

    def check_still(self, caller: Identity | None) -> None:
        """Raises CredentialError where `caller`, who was let in, would not be let in any more."""
        if caller is not None and self.keys is not None:
            self.keys.by_id(caller.key_id)
