"""The outermost layer: lets requests in, counts them, and turns what nobody caught into a problem.

Plain ASGI, no buffering.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monolith.access.key_ring import Identity
from monolith.api.auth import CALLER, AccessEndedError, Guard
from monolith.api.origins import Gatekeeper
from monolith.api.problems import ApiError, answer_to
from monolith.api.requests import drain
from monolith.api.security_headers import add_security_headers

logger = logging.getLogger(__name__)

_UNROUTED: Final = "none"
_END_SECONDS: Final = 1.0
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class RequestMetrics:
    """Counts and times of requests by route."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "video_analysis_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "video_analysis_http_request_seconds",
            "Time from the request to the end of its answer",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _UNROUTED)
        method = scope["method"] if route != _UNROUTED else _UNROUTED
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class OuterLayer:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: RequestMetrics, gatekeeper: Gatekeeper, guard: Guard, *, hsts: bool
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._gatekeeper = gatekeeper
        self._guard = guard
        self._hsts = hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        endless = False
        caller: Identity | None = None

        async def watch(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = message["status"]
                endless = _is_endless(message)
                add_security_headers(message, hsts=self._hsts)
            elif message.get("more_body"):
                self._guard.check_still(caller)
            await send(message)

        start = time.perf_counter()
        try:
            scope[CALLER] = caller = await self._admit(scope, receive)
            await self._app(scope, receive, watch)
        except AccessEndedError as error:
            logger.info("an answer was cut off: %s", error)
            if endless:
                await _end(send)
        except Exception as error:
            if status:
                raise  # the answer has begun: all that is left is to cut the connection
            await answer_to(scope["path"], error)(scope, receive, watch)
        finally:
            self._metrics.record(scope, status, time.perf_counter() - start)

    async def _admit(self, scope: Scope, receive: Receive) -> Identity | None:
        """Raises ApiError when a part of the body was read, so that its sender sees why it is refused."""
        try:
            self._gatekeeper.check(scope["method"], Headers(scope=scope))
            return self._guard.admit(scope)
        except ApiError:
            request = Request(scope, receive)
            await drain(request, request.stream())
            raise


async def _end(send: Send) -> None:
    """For a client that takes it; the connection of another one is cut."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await send({"type": "http.response.body", "body": b""})


def _is_endless(start: Message) -> bool:
    """Whether the answer has no end of its own, so that an early one cuts nothing short: server-sent events."""
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/event-stream")
