"""Annotated frames as one MP4 or as a folder of JPEGs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import av
from av.video.stream import VideoStream

from monolith.cli.client import AnalysisClient
from monolith.frames.jpeg import decode

_AHEAD: Final = 4
"""Frames asked for at the same time."""
_TIME_BASE: Final = Fraction(1, 90_000)
_SLOWEST: Final = Fraction(1, 1000)
"""Frames a second that a video has at least."""


class FrameSink(Protocol):
    """Takes annotated frames in order. Blocks: for threads."""

    def write(self, frame_number: int, timestamp: float, jpeg: bytes) -> None: ...


class Folder:
    """One JPEG for each frame, named by its number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, frame_number: int, timestamp: float, jpeg: bytes) -> None:
        (self._folder / f"{frame_number:08d}.jpg").write_bytes(jpeg)


class Mp4:
    """H.264; every picture is shown from its time in the source on, the first at once."""

    def __init__(self, container: av.container.OutputContainer, rate: Fraction) -> None:
        self._container = container
        self._rate = rate
        self._stream: VideoStream | None = None
        self._first = 0.0
        self._last_pts = -1

    def write(self, frame_number: int, timestamp: float, jpeg: bytes) -> None:
        frame = av.VideoFrame.from_ndarray(decode(jpeg), format="rgb24")
        if self._stream is None:
            self._first = timestamp
            self._stream = self._open(frame.width, frame.height)
        pts = round((timestamp - self._first) / _TIME_BASE)
        frame.pts = self._last_pts = max(pts, self._last_pts + 1)
        frame.time_base = _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> VideoStream:
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": "20", "preset": "fast"}
        )
        # H.264 in its common form has even sides: an odd one loses a line.
        stream.width, stream.height = max(2, width // 2 * 2), max(2, height // 2 * 2)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        return stream

    def finish(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


@contextmanager
def open_sink(path: Path, rate: float) -> Iterator[FrameSink]:
    """`path` ends in `.mp4`: a video of `rate` frames a second, named when it is whole; otherwise a folder.

    Raises OSError, av.FFmpegError.
    """
    if path.suffix.lower() != ".mp4":
        path.mkdir(parents=True, exist_ok=True)
        yield Folder(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part.mp4")
    try:
        with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
            sink = Mp4(container, max(_SLOWEST, Fraction(rate).limit_denominator(1001)))
            yield sink
            sink.finish()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
