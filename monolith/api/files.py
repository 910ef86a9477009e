"""A file as an answer: parts of it on demand, a deadline for every send, an end when the client goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from os import stat_result
from pathlib import Path
from typing import Final

from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from monolith.api.problems import ApiError

_BAD_RANGE: Final = (400, 416)

logger = logging.getLogger(__name__)


class _BadRangeError(Exception):
    pass


class FileAnswer(FileResponse):
    """`Range`, `If-Range` and `If-None-Match` work. A client that takes nothing for `send_seconds` is cut off."""

    chunk_size = 256 * 1024

    def __init__(
        self,
        path: Path,
        found: stat_result,
        *,
        etag: str,
        media_type: str,
        name: str,
        send_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`etag`: what stands between the quotes; `name`: what the file is called when it is saved."""
        super().__init__(
            path,
            headers={"etag": f'"{etag}"', **(headers or {})},
            media_type=media_type,
            filename=name,
            stat_result=found,
        )
        self._size = found.st_size
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if _names(asked.get(b"if-none-match", ""), self.headers["etag"]):
            await self._not_modified(send)
            return

        async def bounded(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _BAD_RANGE:
                raise _BadRangeError
            async with asyncio.timeout(self._send_seconds):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        except _BadRangeError:
            raise ApiError(
                416,
                f"no such part: the file has {self._size} bytes; Range takes bytes=FIRST-LAST, counted from 0",
                kind="range-not-satisfiable",
                headers={"Content-Range": f"bytes */{self._size}"},
            ) from None
        except TimeoutError:
            # Returning without an end makes the server cut the connection.
            logger.warning("a client took nothing of %s for too long and was cut off", self.filename)

    async def _not_modified(self, send: Send) -> None:
        kept = {b"etag", b"last-modified", b"cache-control"}
        headers = [(name, value) for name, value in self.raw_headers if name in kept]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _names(condition: str, etag: str) -> bool:
    """Whether `If-None-Match` names the file; weak comparison."""
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return "*" in tags or etag in tags
