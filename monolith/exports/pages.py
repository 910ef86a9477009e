"""All that was found in a video, page by page; the next page is read while one is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from monolith.readmodels.findings import Findings, FindingsPage, read_findings
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import ResultFilter, Selection
from monolith.readmodels.videos import VideoView


async def findings_pages(
    models: ReadModels, video: VideoView, selection: Selection, wanted: ResultFilter, frames: int
) -> AsyncGenerator[tuple[Findings, ...], None]:
    """Frames with results in order, at most `frames` at a time, at least one. Close it when you leave it early.

    All are from the read models in which `video` was found, also when others take their place meanwhile.
    """

    async def page(cursor: int) -> FindingsPage:
        return await models.read(
            lambda c: read_findings(c, video.video_no, selection, wanted, cursor, frames),
            generation=video.generation,
        )

    cursor: int | None = 0
    following: asyncio.Task[FindingsPage] | None = None
    try:
        while cursor is not None:
            found = await (following or page(cursor))
            cursor = found.cursor
            following = None if cursor is None else asyncio.create_task(page(cursor), name="page of findings")
            if found.frames:
                yield found.frames
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
