"""Rows of results as text, read page by page while the page before is being sent: one JSON array, or a row a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import Page, ResultFilter, Selection

_FIRST_PAGE: Final = 64
_PAGE: Final = 1024


class RowFormat(msgspec.Struct, frozen=True):
    """What stands before, between and behind rows; `empty`: where there is none."""

    media_type: str
    start: bytes
    separator: bytes
    end: bytes
    empty: bytes

    def whole(self, page: Page) -> bytes:
        """An answer of one page."""
        return self.start + page.text + self.end if page.rows else self.empty


JSON: Final = RowFormat("application/json", b"[", b",", b"]", b"[]")
NDJSON: Final = RowFormat("application/x-ndjson", b"", b"\n", b"\n", b"")


class RowReader:
    """Reads the pages of one answer."""

    def __init__(
        self,
        models: ReadModels,
        selection: Selection,
        wanted: ResultFilter,
        base_url: str,
        layout: RowFormat = JSON,
    ) -> None:
        self._models = models
        self._selection = selection
        self._wanted = wanted
        self._base_url = base_url
        self._layout = layout

    async def page(self, cursor: int, limit: int) -> Page:
        return await self._models.results_page(
            self._selection,
            self._wanted,
            base_url=self._base_url,
            cursor=cursor,
            limit=limit,
            separator=self._layout.separator,
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
                return Page(self._layout.separator.join(texts), rows, cursor, page.end)

    async def pieces(self, first: Page) -> AsyncGenerator[bytes, None]:
        """All rows, beginning with `first`; the next piece is read while one is sent."""
        page, before = first, self._layout.start
        begun = False
        following: asyncio.Task[Page] | None = None
        try:
            while True:
                following = None if page.end else asyncio.create_task(self.page(page.cursor, _PAGE))
                if page.rows:
                    yield before + page.text
                    before, begun = self._layout.separator, True
                if following is None:
                    break
                page = await following
            yield self._layout.end if begun else self._layout.empty
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def first_page(self, cursor: int) -> Page:
        """A small one: the answer begins soon."""
        return await self.page(cursor, _FIRST_PAGE)
