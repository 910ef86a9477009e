"""Who may ask: pages of other sites may not change anything here, and no foreign name may lead here.

A script sends neither `Origin` nor `Sec-Fetch-Site`; a browser always sends one with a request that changes something.
DNS rebinding makes a page of another site look like ours: its requests name that site's host, so a server that only
this machine can reach takes only this machine's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from monolith.api.problems import ApiError

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of our own pages, and of what the user typed."""
_PORTS: Final = {"http": 80, "https": 443}


class Gatekeeper:
    """Checks requests before they are routed. `public_url`: whose pages are ours, besides those of the host asked.
    `cors_origins`: whose pages are let in like ours."""

    def __init__(
        self, public_url: str | None, *, loopback_only: bool, cors_origins: Sequence[str] = ()
    ) -> None:
        self._named = {_origin(url) for url in (public_url, *cors_origins) if url is not None} - {None}
        self._loopback_only = loopback_only

    def check(self, method: str, headers: Headers) -> None:
        """Raises ApiError."""
        host = headers.get("host", "")
        if self._loopback_only and host and not _names_this_machine(host):
            raise ApiError(
                421,
                f"this server answers to localhost, 127.0.0.1 and [::1] only, not to {host[:100]!r};"
                " set VIDEO_ANALYSIS_PUBLIC_URL to serve under another name",
                kind="unknown-host",
            )
        if method not in _SAFE and not self._is_ours(host, headers):
            raise ApiError(
                403,
                "a page of another site may change nothing here; if it is yours, set VIDEO_ANALYSIS_PUBLIC_URL to its"
                " address, or name it in VIDEO_ANALYSIS_CORS_ORIGINS",
                kind="cross-site",
            )

    def _is_ours(self, host: str, headers: Headers) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in _OURS or (site is None and origin is None):
            return True
        if origin is None:
            return False
        found = _origin(origin)
        if found in self._named:
            return True
        return site is None and found is not None and found[1:] == _place(host, found[0])


def cors_options(origins: Sequence[str]) -> dict[str, Any]:
    """For Starlette's CORSMiddleware: these origins alone, with credentials; never `*`."""
    return {
        "allow_origins": list(origins),
        "allow_credentials": True,
        "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": [
            "Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID",
        ],
        "expose_headers": [
            "Accept-Patch", "ETag", "Idempotent-Replayed", "Link", "Location", "Retry-After", "WWW-Authenticate",
        ],
    }  # fmt: skip


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for `null` and what is no origin."""
    try:
        parts = urlsplit(url)
        return None if parts.scheme not in _PORTS else (parts.scheme, *_host_and_port(parts, parts.scheme))
    except ValueError:
        return None


def _place(host: str, scheme: str) -> tuple[str, int] | None:
    """Of a `Host` header. Behind a proxy that ends TLS only the browser knows the scheme."""
    try:
        return _host_and_port(urlsplit(f"//{host}"), scheme)
    except ValueError:
        return None


def _host_and_port(parts: SplitResult, scheme: str) -> tuple[str, int]:
    return parts.hostname or "", parts.port or _PORTS[scheme]


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
