"""A line in the log for every request, and an id by which a request is found there again.

Plain ASGI, outermost, no buffering.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monolith.api.auth import address_of
from monolith.application.log_context import log_context

REQUEST_ID: Final = "X-Request-ID"

_SANE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PROBES: Final = ("/health/", "/metrics")
_LONGEST_PATH: Final = 200

logger = logging.getLogger("monolith.access")


class AccessLog:
    """ASGI middleware. Every answer carries the request's id: the client's own where that is plain and short, else a
    new one; what is logged on the request's behalf carries it, too.

    `log`: whether requests are logged. Those of probes and of Prometheus are logged at level debug.
    """

    def __init__(self, app: ASGIApp, *, log: bool) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        status: int | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        start = time.perf_counter()
        with log_context(request_id=request_id):
            try:
                await self._app(scope, receive, watch)
            finally:
                if self._log:
                    _log_request(scope, status, time.perf_counter() - start)


def _id_of(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SANE.fullmatch(given) else uuid4().hex


def _log_request(scope: Scope, status: int | None, seconds: float) -> None:
    """`route` is the path's template; a path that leads nowhere is shown as it came. Queries are never logged."""
    path: str = scope["path"]
    route: str = getattr(scope.get("route"), "path", path[:_LONGEST_PATH])
    client = address_of(scope)
    milliseconds = round(seconds * 1000, 1)
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": route,
        "status": status,
        "milliseconds": milliseconds,
        "client": client,
    }
    video_id = scope.get("path_params", {}).get("video_id")
    if video_id is not None:
        fields["video_id"] = video_id
    level = logging.DEBUG if path.startswith(_PROBES) else logging.INFO
    outcome = status if status is not None else "no answer"
    logger.log(
        level, "%s %s: %s in %s ms", scope["method"], route, outcome, milliseconds, extra={"fields": fields}
    )
