"""Annotated frames as one MP4, which the program makes in the background, or as a folder of JPEGs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from monolith.cli.client import AnalysisClient, AnnotatedVideo
from monolith.cli.exits import CliError, Exit

_AHEAD: Final = 4
"""Frames asked for at the same time."""
_POLL_SECONDS: Final = 0.3
_PART_BYTES: Final = 8 << 20

Watch = Callable[[float, int], None]
"""Told how far it is: 0–1, and how many frames are encoded."""


def is_video(path: Path) -> bool:
    """Whether one video is wanted at `path`, not a folder of pictures."""
    return path.suffix.lower() == ".mp4"


async def write_annotated_video(
    client: AnalysisClient,
    video_id: str,
    path: Path,
    watch: Watch,
    options: Sequence[tuple[str, str]] = (),
) -> AnnotatedVideo:
    """Have the video made and bring it to `path`, which gets its name when it is whole. `options`: as of the API.

    Raises CliError, OSError.
    """
    made = await _made(client, video_id, watch, options)
    if made.url is None:
        raise CliError(made.error or "the annotated video was not made", Exit.FAILED)
    part = path.with_name(f"{path.name}.part")
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    try:
        with await asyncio.to_thread(part.open, "wb") as file:
            await _fetch(client, made.url, file)
        await asyncio.to_thread(part.replace, path)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)
    return made


async def _made(
    client: AnalysisClient, video_id: str, watch: Watch, options: Sequence[tuple[str, str]]
) -> AnnotatedVideo:
    """How it ended."""
    state = await client.annotated_video(video_id, options, ask=True)
    while not state.ended:
        watch(state.progress, state.frames)
        await asyncio.sleep(_POLL_SECONDS)
        state = await client.annotated_video(video_id, options, ask=False)
    watch(state.progress, state.frames)
    return state


async def _fetch(client: AnalysisClient, url: str, file: BinaryIO) -> None:
    """In parts: memory is bounded, also where program and client are one process."""
    done, size, first_tag = 0, 1, None
    while done < size:
        answer = await client.part(url, done, _PART_BYTES)
        tag = answer.headers.get("etag")
        if answer.status_code != 206 or tag != (first_tag or tag):
            raise CliError("the annotated video changed while it was fetched; try again", Exit.FAILED)
        first_tag = tag
        size = int(answer.headers["content-range"].rpartition("/")[2])
        await asyncio.to_thread(file.write, answer.content)
        done += len(answer.content)


class Folder:
    """One JPEG for each frame, named by its number. Blocks: for threads."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, frame_number: int, jpeg: bytes) -> None:
        """Raises OSError."""
        (self._folder / f"{frame_number:08d}.jpg").write_bytes(jpeg)


async def annotated_frames(
    client: AnalysisClient, video_id: str, timestamps: Mapping[int, float]
) -> AsyncGenerator[tuple[int, float, bytes], None]:
    """Number, time and annotated JPEG of the frames in `timestamps`, in order, a few fetched ahead."""
    waiting: deque[tuple[int, asyncio.Task[bytes]]] = deque()
    numbers = iter(sorted(timestamps))
    try:
        while True:
            while len(waiting) < _AHEAD and (number := next(numbers, None)) is not None:
                waiting.append((number, asyncio.create_task(client.frame(video_id, number))))
            if not waiting:
                return
            number, task = waiting[0]
            jpeg = await task
            waiting.popleft()
            yield number, timestamps[number], jpeg
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
