"""A nameless temporary file as an answer: sent in pieces, closed in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import BinaryIO, Final

from starlette.types import Receive, Scope, Send

from monolith.api.file_names import attachment
from monolith.api.streaming import PiecewiseResponse
from monolith.readmodels.table_export import ExportedFile, ExportFormat

_PIECE: Final = 1 << 20


class ExportedFileResponse(PiecewiseResponse):
    """`send_seconds`: the longest time in which the client may take nothing; `end` closes the file, and gives back what
    is held as long as it is there."""

    def __init__(
        self, made: ExportedFile, kind: ExportFormat, send_seconds: float, end: Callable[[], None]
    ) -> None:
        super().__init__(
            _pieces(made.file),
            media_type=kind.media_type,
            send_seconds=send_seconds,
            headers={"Content-Disposition": attachment(made.video_name, kind.ending), "Vary": "Accept"},
        )
        self.headers["Content-Length"] = str(made.size)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def _pieces(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
