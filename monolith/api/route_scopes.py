"""Which scope a request needs: every route of the API stands in `ROUTES`, a test sees to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final, TypeAlias

from starlette.routing import BaseRoute, compile_path

from monolith.access.scopes import Scope


class Special(Enum):
    OPEN = "open"
    """Anyone: nothing about videos is in the answer."""
    SIGNED_IN = "signed in"
    """Any valid key."""
    PUBLISHER = "publisher"
    """The bearer token of the endpoint that is published to; the route asks for it."""


Need: TypeAlias = Scope | Special

_OPEN, _READ, _WRITE, _ADMIN = Special.OPEN, Scope.READ, Scope.WRITE, Scope.ADMIN

ROUTES: Final[dict[tuple[str, str], Need]] = {
    ("GET", "/"): _OPEN,
    ("GET", "/docs"): _OPEN,
    ("GET", "/live"): _OPEN,
    ("GET", "/publish"): _OPEN,
    ("GET", "/sign-in"): _OPEN,
    ("GET", "/web/{name}"): _OPEN,
    ("GET", "/asyncapi"): _OPEN,
    ("GET", "/asyncapi.json"): _OPEN,
    ("GET", "/openapi.json"): _OPEN,
    ("HEAD", "/openapi.json"): _OPEN,
    ("GET", "/health/live"): _OPEN,
    ("GET", "/health/ready"): _OPEN,
    ("GET", "/health/startup"): _OPEN,
    ("GET", "/metrics"): _READ,
    ("GET", "/rebuild"): _READ,
    ("POST", "/rebuild"): _ADMIN,
    ("GET", "/retention"): _READ,
    ("POST", "/retention"): _ADMIN,
    ("POST", "/webhooks"): _ADMIN,
    ("GET", "/webhooks"): _ADMIN,
    ("GET", "/webhooks/{webhook_id}"): _ADMIN,
    ("DELETE", "/webhooks/{webhook_id}"): _ADMIN,
    ("POST", "/webhooks/{webhook_id}/enable"): _ADMIN,
    ("POST", "/webhooks/{webhook_id}/test"): _ADMIN,
    ("GET", "/webhooks/{webhook_id}/parked"): _ADMIN,
    ("DELETE", "/webhooks/{webhook_id}/parked"): _ADMIN,
    ("POST", "/webhooks/{webhook_id}/replay"): _ADMIN,
    ("GET", "/session"): Special.SIGNED_IN,
    ("POST", "/session"): Special.SIGNED_IN,
    ("DELETE", "/session"): _OPEN,
    ("POST", "/analysis/start"): _WRITE,
    ("POST", "/analysis/upload"): _WRITE,
    ("POST", "/analysis/rtmp-endpoint"): _WRITE,
    ("POST", "/analysis/{video_id}/cancel"): _WRITE,
    ("DELETE", "/analysis/{video_id}"): _WRITE,
    ("GET", "/analysis/videos"): _READ,
    ("GET", "/analysis/{video_id}"): _READ,
    ("GET", "/analysis/{video_id}/metrics"): _READ,
    ("GET", "/analysis/{video_id}/connections"): _READ,
    ("GET", "/analysis/{video_id}/results"): _READ,
    ("GET", "/analysis/{video_id}/timeline"): _READ,
    ("GET", "/analysis/{video_id}/summary"): _READ,
    ("GET", "/analysis/{video_id}/frame/{n}"): _READ,
    ("GET", "/analysis/{video_id}/frame/{n}/results"): _READ,
    ("POST", "/analysis/{video_id}/annotated"): _WRITE,
    ("DELETE", "/analysis/{video_id}/annotated"): _WRITE,
    ("GET", "/analysis/{video_id}/annotated"): _READ,
    ("GET", "/analysis/{video_id}/annotated.mp4"): _READ,
    ("GET", "/analysis/{video_id}/coco.json"): _READ,
    ("GET", "/analysis/{video_id}/subtitles.vtt"): _READ,
    ("GET", "/analysis/{video_id}/events"): _READ,
    ("GET", "/analysis/{video_id}/events/stream"): _READ,
    ("POST", "/whep/{video_id}"): _READ,
    ("OPTIONS", "/whep/{video_id}"): _OPEN,
    ("GET", "/whep/{video_id}/{session_id}"): _READ,
    ("GET", "/whep/{video_id}/{session_id}/results"): _READ,
    ("PATCH", "/whep/{video_id}/{session_id}"): _READ,
    ("DELETE", "/whep/{video_id}/{session_id}"): _READ,
    ("OPTIONS", "/whep/{video_id}/{session_id}"): _OPEN,
    ("POST", "/analysis/webrtc-endpoint"): _WRITE,
    ("POST", "/whip/{video_id}"): Special.PUBLISHER,
    ("OPTIONS", "/whip/{video_id}"): _OPEN,
    ("PATCH", "/whip/{video_id}/{session_id}"): Special.PUBLISHER,
    ("DELETE", "/whip/{video_id}/{session_id}"): Special.PUBLISHER,
    ("OPTIONS", "/whip/{video_id}/{session_id}"): _OPEN,
}
"""Method and path of a route → what it needs."""

FORGOTTEN: Final = _ADMIN
"""What a route needs that is not in the table."""


class Needs:
    """What requests need, by their path. `routes`: of the application, so that none of them is open by oversight."""

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        table = dict.fromkeys(routes, FORGOTTEN) | ROUTES
        self._patterns: dict[str, list[tuple[re.Pattern[str], Need]]] = {}
        for (method, path), need in table.items():
            self._patterns.setdefault(method, []).append((compile_path(path)[0], need))

    def of(self, method: str, path: str) -> frozenset[Need]:
        """All that a request needs. Where several routes fit, which of them takes it is not for us to guess."""
        found = frozenset(need for pattern, need in self._patterns.get(method, ()) if pattern.match(path))
        return found or frozenset({Special.SIGNED_IN})


def methods_and_paths(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Of every route, also of included routers."""
    for route in routes:
        included: Any = getattr(route, "original_router", None)
        if included is not None:
            yield from methods_and_paths(included.routes)
            continue
        path: str = getattr(route, "path", "")
        for method in getattr(route, "methods", None) or ("*",):
            yield method, path
