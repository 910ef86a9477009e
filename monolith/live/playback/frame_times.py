"""When, by its source's own time, each sampled frame of a live video was: what ties results to the picture played."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from monolith.ingest.messages import FrameReady
from monolith.live.feeds import LiveFeeds

_FRAMES_KEPT: Final = 512
"""Of each video; results come within seconds."""
_VIDEOS_KEPT: Final = 256


class FrameTime(msgspec.Struct, frozen=True):
    """`milliseconds`: of the source's own time; `width`, `height`: pixels of the stored frame, which boxes refer to."""

    milliseconds: int
    width: int
    height: int


class FrameTimes:
    """The newest frames of the videos that have a publisher."""

    def __init__(self, feeds: LiveFeeds) -> None:
        self._feeds = feeds
        self._videos: OrderedDict[str, OrderedDict[int, FrameTime]] = OrderedDict()

    def note(self, video_id: str, ready: FrameReady) -> None:
        """For the follower of the source (`FrameWatcher`)."""
        if ready.source_time is None or self._feeds.get(video_id) is None:
            return
        frames = self._videos.setdefault(video_id, OrderedDict())
        self._videos.move_to_end(video_id)
        frame = ready.frame
        frames[frame.frame_number] = FrameTime(round(ready.source_time * 1000), frame.width, frame.height)
        if len(frames) > _FRAMES_KEPT:
            frames.popitem(last=False)
        if len(self._videos) > _VIDEOS_KEPT:
            self._videos.popitem(last=False)

    def of(self, video_id: str, frame_number: int) -> FrameTime | None:
        return self._videos.get(video_id, OrderedDict()).get(frame_number)
