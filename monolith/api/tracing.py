"""A span for each request: a step of the caller's trace where it names one (`traceparent`), else a trace of its own."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monolith.application.log_context import log_context
from monolith.application.tracing import TRACEPARENT, Tracing, trace_id_of

_PROBES: Final = ("/health/", "/metrics")
_SERVER_ERROR: Final = 500


class TracingLayer:
    """ASGI middleware, around the whole application. Probes and Prometheus make no spans. Attributes are named as
    OpenTelemetry's conventions for HTTP name them; addresses and queries, which may hold secrets, are not told."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_PROBES):
            await self._app(scope, receive, send)
            return
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method: str = scope["method"]
        parent = Headers(scope=scope).get(TRACEPARENT, "")
        with self._tracing.continued(parent, method) as span:
            try:
                with log_context(trace_id=trace_id_of(self._tracing.here())):
                    await self._app(scope, receive, watch)
            finally:
                route: str = getattr(scope.get("route"), "path", "")
                about: dict[str, str | int] = {
                    "http.request.method": method,
                    "http.response.status_code": status,
                }
                if route:
                    about["http.route"] = route
                if video_id := scope.get("path_params", {}).get("video_id"):
                    about["video_id"] = str(video_id)
                span.tell(f"{method} {route}".strip(), about, failed=status >= _SERVER_ERROR)
