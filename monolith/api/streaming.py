"""Long answers piece by piece: bounded memory, a deadline for every send, an end when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from monolith.api.problems import ApiError, too_busy

logger = logging.getLogger(__name__)


class Turns:
    """How many streams, uploads or files (`what`) may be under way at once. Not a queue: who finds no place is told
    so."""

    def __init__(self, places: int, what: str) -> None:
        self.places = places
        self.what = what
        self.taken = 0

    def require(self) -> None:
        """Raises ApiError (503) when no place is free."""
        if self.taken >= self.places:
            raise too_busy(f"all {self.places} {self.what} are taken; try again later")

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class PiecewiseResponse(Response):
    """Sends what `pieces` yields. A client that takes no piece within `send_seconds` is cut off.

    `pieces` is closed in every case. Without a free place in `turns` the answer is a 503. An error after the start of
    the answer cuts the connection, so that the client cannot take a part for the whole.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        send_seconds: float,
        headers: Mapping[str, str] | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._send_seconds = send_seconds
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._turns is None:
            await self._run(scope, receive, send)
            return
        try:
            self._turns.require()
        except ApiError:
            await self._pieces.aclose()
            raise
        with self._turns.take():
            await self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_disconnect(receive), name="disconnect of a stream")
        sending = asyncio.create_task(self._send_all(scope, send), name="sending a stream")
        try:
            await asyncio.wait((gone, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                _check(sending)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)
            await self._pieces.aclose()

    async def _send_all(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces:
            async with asyncio.timeout(self._send_seconds):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        async with asyncio.timeout(self._send_seconds):
            await send({"type": "http.response.body", "body": b""})


def _check(sending: asyncio.Task[None]) -> None:
    try:
        sending.result()
    except TimeoutError:
        # Returning without an end makes the server cut the connection.
        logger.warning("a client took nothing of its answer for too long and was cut off")


async def _until_disconnect(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
