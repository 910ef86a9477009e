"""Rows of results as one JSON array, read page by page while the page before is being sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import Page, ResultFilter, Selection

_FIRST_PAGE: Final = 64
_PAGE: Final = 1024


class RowReader:
    """Reads the pages of one answer."""

    def __init__(self, models: ReadModels, selection: Selection, wanted: ResultFilter, base_url: str) -> None:
        self._models = models
        self._selection = selection
        self._wanted = wanted
        self._base_url = base_url

    async def page(self, cursor: int, limit: int) -> Page:
        return await self._models.results_page(
            self._selection, self._wanted, base_url=self._base_url, cursor=cursor, limit=limit
        )

    async def filled_page(self, cursor: int, limit: int) -> Page:
        """`limit` rows, fewer only at the end: filters may leave little of a page that was read."""
        texts: list[bytes] = []
        rows = 0
        while True:
            page = await self.page(cursor, limit - rows)
            cursor, rows = page.cursor, rows + page.rows
            if page.rows:
                texts.append(page.text)
            if page.end or rows >= limit:
                return Page(b",".join(texts), rows, cursor, page.end)

    async def array(self, first: Page) -> AsyncGenerator[bytes, None]:
        """The JSON array that begins with `first`, in pieces; the next piece is read while one is sent."""
        page, separator = first, b"["
        following: asyncio.Task[Page] | None = None
        try:
            while True:
                following = None if page.end else asyncio.create_task(self.page(page.cursor, _PAGE))
                if page.rows:
                    yield separator + page.text
                    separator = b","
                if following is None:
                    break
                page = await following
            yield b"[]" if separator == b"[" else b"]"
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def first_page(self, cursor: int) -> Page:
        """A small one: the answer begins soon."""
        return await self.page(cursor, _FIRST_PAGE)
