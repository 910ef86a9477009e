"""Who asks: a key in `Authorization: Bearer` or `X-API-Key`, or the cookie of a session. Never in a URL.

A key is looked at before a cookie. What a request needs stands in `route_scopes`.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope as AsgiScope

from monolith.access.control import AccessControl
from monolith.access.key_ring import Identity, KeyRing
from monolith.access.keys import CredentialError
from monolith.access.rates import client_of
from monolith.access.refusals import Refusals
from monolith.access.scopes import Scope, allows
from monolith.api.problems import ApiError, too_often
from monolith.api.route_scopes import Needs, Special

CALLER: Final = "video_analysis.caller"
"""Where a request's Identity is in its ASGI scope; None: no key was asked for, or none was shown."""
_CHALLENGE: Final = 'Bearer realm="video-analysis"'
_HOW: Final = (
    "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `video-analysis keys create` makes one"
)

logger = logging.getLogger(__name__)


class AccessEndedError(Exception):
    """The key behind an answer that goes on was revoked, or expired."""


class Guard:
    """Lets requests in, or says why not."""

    def __init__(self, access: AccessControl, needs: Needs, refusals: Refusals) -> None:
        self._access = access
        self._needs = needs
        self._refusals = refusals

    def admit(self, scope: AsgiScope) -> Identity | None:
        """Who asks; None where no key is needed and none that is valid was sent.

        Raises ApiError: 401 (no key, or a wrong one), 403 (a scope is missing), 429 (too often).
        """
        address = address_of(scope)
        if self._access.keys is None:
            self._count(None, address)
            return None
        needs = self._needs.of(scope["method"], scope["path"])
        is_open = needs in ({Special.OPEN}, {Special.PUBLISHER})
        caller = self._caller(self._access.keys, Headers(scope=scope), address, is_open=is_open)
        self._count(caller, address)
        if is_open:
            return caller
        if caller is None:
            self._refusals.count("no key")
            raise _unauthorized(f"an API key is needed here; {_HOW}")
        self._check_scopes(caller, {need for need in needs if isinstance(need, Scope)})
        return caller

    def check_still(self, caller: Identity | None) -> None:
        """Raises AccessEndedError where `caller` would not be let in any more."""
        try:
            self._access.check_still(caller)
        except CredentialError as error:
            raise AccessEndedError(str(error)) from error

    def _caller(self, keys: KeyRing, headers: Headers, address: str, *, is_open: bool) -> Identity | None:
        key = key_in(headers)
        try:
            return keys.identify(key) if key is not None else self._of_session(keys, headers)
        except CredentialError as error:
            if is_open:
                return None
            if key is None:
                raise _unauthorized(str(error), error="invalid_token") from error
            raise self._wrong(error, address) from error

    def _of_session(self, keys: KeyRing, headers: Headers) -> Identity | None:
        cookie = session_cookie(self._access, headers)
        return None if cookie is None else keys.by_id(self._access.sessions.key_id(cookie))

    def _wrong(self, error: CredentialError, address: str) -> ApiError:
        """Wrong keys are counted by address, more strictly than requests; sessions are not: they end by themselves."""
        wait = self._refusals.wrong("wrong key", address)
        if wait:
            return too_often(wait, "too many wrong API keys came from your address")
        logger.warning("a request from %s was refused: %s", address, error)
        return _unauthorized(str(error), error="invalid_token")

    def _count(self, caller: Identity | None, address: str) -> None:
        """The command line of this machine is not counted."""
        if self._access.requests is None or (caller is not None and caller.local):
            return
        wait = self._access.requests.take(f"key {caller.key_id}" if caller else client_of(address))
        if wait:
            self._refusals.count("too often")
            raise too_often(wait, "you ask more often than VIDEO_ANALYSIS_RATE_LIMIT allows")

    def _check_scopes(self, caller: Identity, needed: set[Scope]) -> None:
        missing = sorted(scope for scope in needed if not allows(caller.scopes, scope))
        if not missing:
            return
        self._refusals.count("scope")
        held = ", ".join(caller.scopes)
        words = " ".join(missing)
        raise ApiError(
            403,
            f"this needs an API key with the scope {words}; yours ({caller.name or caller.key_id}) has {held}",
            kind="scope-missing",
            headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{words}"'},
        )


def key_in(headers: Headers) -> str | None:
    """The key that a request carries itself. Other kinds of `Authorization` are a proxy's business, not ours."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value.strip():
        return value
    return headers.get("x-api-key")


def cookie_name(access: AccessControl) -> str:
    """`__Host-`: browsers take it only over HTTPS, from this very host, for all of it."""
    return "__Host-video-analysis-session" if access.https else "video-analysis-session"


def session_cookie(access: AccessControl, headers: Headers) -> str | None:
    cookies: dict[str, Any] = cookie_parser(headers.get("cookie", ""))
    value = cookies.get(cookie_name(access))
    return None if value is None else str(value)


def _unauthorized(detail: str, *, error: str = "") -> ApiError:
    challenge = f'{_CHALLENGE}, error="{error}"' if error else _CHALLENGE
    return ApiError(401, detail, kind="unauthorized", headers={"WWW-Authenticate": challenge})


def address_of(scope: AsgiScope) -> str:
    """Where a request comes from, as far as is known."""
    client = scope.get("client")
    return client[0] if client else "unknown"
