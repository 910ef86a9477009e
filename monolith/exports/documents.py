"""COCO and WebVTT documents piece by piece: their length is bounded by nothing, their memory is."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from monolith.exports.pages import findings_pages
from monolith.readmodels.coco import CocoWriter
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import ResultFilter, Selection
from monolith.readmodels.videos import VideoView
from monolith.readmodels.webvtt import CueWriter, Kind, longest_stand

_FRAMES_A_PAGE: Final = 128
_PIECE: Final = 1 << 18
_USUAL_RATE: Final = 25.0


class Source(msgspec.Struct, frozen=True):
    """What a document is made of. `base`: the server's address, without a slash at its end."""

    models: ReadModels
    video: VideoView
    selection: Selection
    wanted: ResultFilter
    base: str

    @property
    def frames_url(self) -> str:
        return f"{self.base}/analysis/{self.video.video_id}/frame"


async def coco_document(source: Source, folder: Path) -> AsyncGenerator[bytes, None]:
    """One pass over the results: the annotations go out, the images wait in a nameless file in `folder`, so that an
    analysis that goes on cannot part them."""
    writer = CocoWriter(_info(source), source.frames_url)
    file: BinaryIO = await asyncio.to_thread(tempfile.TemporaryFile, dir=folder)
    try:
        yield writer.head()
        pages = findings_pages(source.models, source.video, source.selection, source.wanted, _FRAMES_A_PAGE)
        async with aclosing(pages):
            async for frames in pages:
                if source.wanted.label is not None:
                    frames = tuple(frame for frame in frames if frame.detections)
                text = await asyncio.to_thread(writer.annotations, frames)
                await asyncio.to_thread(lambda found: file.write(writer.images(found)), frames)
                if text:
                    yield text
        yield writer.middle()
        await asyncio.to_thread(file.seek, 0)
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
        yield writer.tail()
    finally:
        await asyncio.to_thread(file.close)


def _info(source: Source) -> dict[str, Any]:
    video = source.video
    runs = [run.run_id for run in video.runs if run.run_no in source.selection.run_numbers]
    return {
        "description": video.video_name,
        "url": f"{source.base}/analysis/{video.video_id}",
        "version": "1.0",
        "video_id": video.video_id,
        "run_ids": runs,
    }


async def webvtt_document(
    source: Source, kind: Kind, *, with_colors: bool = False
) -> AsyncGenerator[bytes, None]:
    """See `monolith.readmodels.webvtt`."""
    video = source.video
    runs = [run for run in video.runs if run.run_no in source.selection.run_numbers]
    step = max((run.frame_step for run in runs), default=1)
    rate = video.media.frame_rate if video.media else None
    writer = CueWriter(
        kind, longest=longest_stand(rate, step), usual=step / (rate or _USUAL_RATE), with_colors=with_colors
    )
    yield writer.head(f"{video.video_name}, {source.base}/analysis/{video.video_id}")
    pages = findings_pages(source.models, video, source.selection, source.wanted, _FRAMES_A_PAGE)
    async with aclosing(pages):
        async for frames in pages:
            if text := await asyncio.to_thread(writer.cues, frames):
                yield text
    if text := writer.tail():
        yield text
