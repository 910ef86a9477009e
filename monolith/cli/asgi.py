"""Requests to an ASGI application in this process whose answers may be long: pieces are taken as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.types import ASGIApp, Message


class StreamingTransport(httpx.AsyncBaseTransport):
    """As httpx's own ASGITransport, which holds whole answers in memory, does for requests with a small body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(await request.aread())
        exchange.task = asyncio.create_task(
            self._call(request, exchange), name=f"request of {request.url.path}"
        )
        start = await exchange.next()
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        return httpx.Response(start["status"], headers=headers, stream=_Body(exchange))

    async def _call(self, request: httpx.Request, exchange: _Exchange) -> None:
        url = request.url
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """A request and its answer; at most one piece waits."""

    def __init__(self, body: bytes) -> None:
        self._request = body
        self.task: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue(1)
        self._asked = False
        self._closed = asyncio.Event()

    async def receive(self) -> Message:
        """The request; then the end of the connection."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._request, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self._messages.put(message)

    async def next(self) -> Message:
        """The next message of the answer. Raises what ended the application before it."""
        assert self.task is not None
        coming = asyncio.create_task(self._messages.get())
        try:
            await asyncio.wait((coming, self.task), return_when=asyncio.FIRST_COMPLETED)
            if coming.done() or not self._messages.empty():
                return await coming
        finally:
            coming.cancel()
        self.task.result()
        raise httpx.RemoteProtocolError("the answer broke off")

    async def close(self) -> None:
        self._closed.set()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._exchange.next()
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def aclose(self) -> None:
        await self._exchange.close()
