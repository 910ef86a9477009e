"""What becomes of requests that are still open when the server's graceful time is over.

Plain ASGI, no buffering.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monolith.api.problems import RETRY_AFTER, problem_response

_SEND_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class EndingLayer:
    """A request that is cut off by the end of the server gets a 503 where its answer has not begun."""

    def __init__(self, app: ASGIApp, *, stopping: asyncio.Event) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            if not self._stopping.is_set() or scope["type"] != "http":
                raise
            logger.info("a request was cut off by the end of the server")
            if not begun:
                await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    detail = "the server is ending; ask again when it is back"
    headers = {**RETRY_AFTER, "Connection": "close"}
    response = problem_response(scope["path"], 503, detail, kind="ending", headers=headers)
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            await response(scope, receive, send)
    except TimeoutError:
        return
