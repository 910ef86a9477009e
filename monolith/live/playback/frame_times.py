"""When, by its source's own time, each sampled frame of a watched video was: what ties results to pictures played."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from monolith.ingest.messages import FrameReady

_FRAMES_KEPT: Final = 512
"""Of each video; results come within seconds."""


class FrameTime(msgspec.Struct, frozen=True):
    """`milliseconds`: of the source's own time; `width`, `height`: pixels of the stored frame, which boxes refer to;
    `noted`: when it was decoded, by the monotonic clock."""

    milliseconds: int
    width: int
    height: int
    noted: float


class _Watched:
    def __init__(self) -> None:
        self.frames: OrderedDict[int, FrameTime] = OrderedDict()
        self.watchers = 0


class FrameTimes:
    """The newest frames of the videos that are watched."""

    def __init__(self) -> None:
        self._videos: dict[str, _Watched] = {}

    def note(self, video_id: str, ready: FrameReady) -> None:
        """For the follower of the source (`FrameWatcher`)."""
        watched = self._videos.get(video_id)
        if watched is None or ready.source_time is None:
            return
        frame = ready.frame
        found = FrameTime(round(ready.source_time * 1000), frame.width, frame.height, time.monotonic())
        watched.frames[frame.frame_number] = found
        if len(watched.frames) > _FRAMES_KEPT:
            watched.frames.popitem(last=False)

    def of(self, video_id: str, frame_number: int) -> FrameTime | None:
        watched = self._videos.get(video_id)
        return None if watched is None else watched.frames.get(frame_number)

    @contextmanager
    def watching(self, video_id: str) -> Iterator[None]:
        """Times are noted as long as somebody is in this context."""
        watched = self._videos.setdefault(video_id, _Watched())
        watched.watchers += 1
        try:
            yield
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                del self._videos[video_id]
