"""Headers that tell browsers what an answer may not do. A route's own headers win."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message

_POLICY: Final = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""For answers that are no pages; pictures and videos may be looked at by themselves."""
_ALWAYS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HSTS: Final = "max-age=31536000"


def add_security_headers(start: Message, *, hsts: bool) -> None:
    """`start`: an `http.response.start`. `hsts`: browsers shall use HTTPS alone for this name from now on."""
    headers = MutableHeaders(raw=start["headers"])
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    if hsts:
        headers.setdefault("Strict-Transport-Security", _HSTS)
