"""Makes one annotated video: reads what was found page by page and has an encoder process draw it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec

from monolith.exports.encoder_process import EncoderProcess, encoder_process
from monolith.exports.errors import FramesExpiredError, NothingToShowError, VideoGoneError
from monolith.exports.files import AnnotatedFiles, Made, ReadyFile
from monolith.exports.messages import Append, Begin, DrawnFrame, Encoded, Finish, Finished
from monolith.exports.options import Subject
from monolith.exports.pages import findings_pages
from monolith.exports.times import FileTimes
from monolith.frames.letterbox import even_canvas
from monolith.readmodels.findings import (
    ExtentSlice,
    Findings,
    StoredExtent,
    extent_of,
    read_extent_slice,
)
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import ResultFilter
from monolith.readmodels.videos import VideoView

_FRAMES_A_MESSAGE: Final = 32
_MESSAGES_AHEAD: Final = 2
_SLICE: Final = 50_000

PackPath = Callable[[str, str], Path]
"""Video id, pack name → the pack."""


class Progress(msgspec.Struct):
    """How far it is. `fraction`: 0–1."""

    frames: int = 0
    fraction: float = 0.0
    pid: int | None = None


class Maker:
    """Makes videos one at a time or several at once. Raises AnnotatedErrors, OSError."""

    def __init__(self, models: ReadModels, files: AnnotatedFiles, pack_path: PackPath) -> None:
        self._models = models
        self._files = files
        self._pack_path = pack_path

    async def require_frames(self, subject: Subject) -> None:
        """Raises NothingToShowError."""
        if (await self._slice(subject.video, _bounded(subject), 0, 1)).last is None:
            raise _nothing(subject)

    async def make(self, subject: Subject, progress: Progress) -> ReadyFile:
        """The finished file, in its place. What was begun is removed in every case."""
        video_id, options = subject.video.video_id, subject.options.digest
        part = self._files.part_path(video_id, options, subject.version)
        try:
            await asyncio.to_thread(self._files.require_room, part)
            extent = await self._require_extent(subject)
            await asyncio.to_thread(self._files.prepare, video_id)
            times = FileTimes(subject.options)
            finished = await self._encode(subject, extent, part, times, progress)
            await asyncio.to_thread(self._files.require_room, part)
            made = Made(
                options=options, version=subject.version, frames=finished.frames, complete=subject.complete,
                start_time=times.origin, duration=finished.end, codec=finished.codec,
                size_bytes=finished.size_bytes, made_at=time.time(),
            )  # fmt: skip
            return await self._place(subject, part, made)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def _place(self, subject: Subject, part: Path, made: Made) -> ReadyFile:
        """Expiry removes the whole folder, with what was placed before; what comes after has no place, or is found out
        here."""
        video_id = subject.video.video_id
        try:
            file = await asyncio.to_thread(self._files.place, part, video_id, made)
        except FramesExpiredError:
            await self._require_same(subject)
            raise
        try:
            await self._require_same(subject)
            await asyncio.to_thread(self._files.announce, file)
        except BaseException:
            await asyncio.to_thread(self._files.remove, [file])
            raise
        await asyncio.to_thread(self._files.drop_older, file, video_id)
        await asyncio.to_thread(self._files.keep_within_bounds, frozenset({file.path}))
        return file

    async def _encode(
        self, subject: Subject, extent: StoredExtent, part: Path, times: FileTimes, progress: Progress
    ) -> Finished:
        width, height = even_canvas(*_largest(extent))
        async with encoder_process(f"encoder of {subject.video.video_id}") as encoder:
            progress.pid = encoder.pid
            await encoder.send(Begin(path=str(part), width=width, height=height, rate=subject.rate))
            waiting: deque[int] = deque()
            pages = findings_pages(
                self._models, subject.video, subject.selection, subject.options.wanted, _FRAMES_A_MESSAGE
            )
            async with aclosing(pages):
                async for frames in pages:
                    drawn = tuple(self._drawn(subject, frame, times) for frame in frames)
                    await encoder.send(Append(drawn))
                    waiting.append(frames[-1].frame_number)
                    if len(waiting) >= _MESSAGES_AHEAD:
                        await self._step(encoder, part, extent, waiting.popleft(), progress)
            while waiting:
                await self._step(encoder, part, extent, waiting.popleft(), progress)
            if progress.frames == 0:
                await self._require_same(subject)
                raise _nothing(subject)
            await encoder.send(Finish())
            finished = await encoder.finished()
        progress.pid = None
        return finished

    async def _step(
        self, encoder: EncoderProcess, part: Path, extent: StoredExtent, number: int, progress: Progress
    ) -> None:
        """Wait until the frames up to `number` are encoded, and see that there is room for more."""
        answer: Encoded = await encoder.encoded()
        span = max(1, extent.last_frame - extent.first_frame + 1)
        progress.frames = answer.frames
        # The end is left to the finish: the file is not ready before.
        progress.fraction = min(0.99, (number - extent.first_frame + 1) / span)
        await asyncio.to_thread(self._files.require_room, part)

    def _drawn(self, subject: Subject, frame: Findings, times: FileTimes) -> DrawnFrame:
        return DrawnFrame(
            pack_path=str(self._pack_path(subject.video.video_id, frame.pack)),
            offset=frame.offset,
            length=frame.length,
            seconds=times.shown_at(frame.timestamp),
            detections=frame.detections,
        )

    async def _require_extent(self, subject: Subject) -> StoredExtent:
        """The stored frames among which those to show are. Raises NothingToShowError."""
        extent = await self._extent(subject.video, _bounded(subject))
        if extent is None:
            raise _nothing(subject)
        return extent

    async def _require_same(self, subject: Subject) -> None:
        """Raises VideoGoneError, FramesExpiredError when frames expired meanwhile: their rows may still be there."""
        video = await self._models.find_video(subject.video.video_id)
        if video is None:
            raise VideoGoneError
        if video.expired_segments != subject.video.expired_segments:
            raise FramesExpiredError

    async def _extent(self, video: VideoView, wanted: ResultFilter) -> StoredExtent | None:
        slices: list[ExtentSlice] = []
        after: int | None = 0
        while after is not None:
            slices.append(await self._slice(video, wanted, after, _SLICE))
            after = slices[-1].last
        return extent_of(slices)

    async def _slice(self, video: VideoView, wanted: ResultFilter, after: int, limit: int) -> ExtentSlice:
        return await self._models.read(
            lambda c: read_extent_slice(c, video.video_no, wanted, after, limit), generation=video.generation
        )


def _bounded(subject: Subject) -> ResultFilter:
    """What is wanted, up to the greatest frame that has results."""
    greatest = max((run.greatest_frame_analyzed for run in subject.runs), default=0)
    return msgspec.structs.replace(subject.options.wanted, to_frame=greatest)


def _largest(extent: StoredExtent) -> tuple[int, int]:
    """The size of most pixels; smaller pictures are scaled to fit."""
    return max(extent.sizes, key=lambda size: (size[0] * size[1], extent.sizes[size]))


def _nothing(subject: Subject) -> NothingToShowError:
    analysed = any(run.frames_analyzed for run in subject.runs)
    if subject.options.from_time is not None or subject.options.to_time is not None:
        return NothingToShowError("no analysed frame lies between from_time and to_time")
    if analysed:
        return NothingToShowError("the frames of this video expired and were removed", was_there=True)
    return NothingToShowError(
        "nothing of this video was analysed yet; ask again when frames_analyzed is above 0"
    )
