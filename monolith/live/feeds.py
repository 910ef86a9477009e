"""From one publisher to many who read: bounded for each of them, and nobody waits for another.

Rules:
- A video has one publisher at a time.
- A reader begins with the newest group of pictures (a keyframe and what follows it), as far as it is kept.
- A reader who does not keep up loses packets, never the publisher: everything up to the next keyframe, counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from monolith.live.packets import CLOCK_RATE, LivePacket

GROUP_BYTES: Final = 16 << 20
GROUP_SECONDS: Final = 12.0
"""A group of pictures that is larger or longer is not kept for those who come later."""
READER_BYTES: Final = 16 << 20
READER_SECONDS: Final = 5.0
"""So much may wait for one reader beyond the group it began with."""


class FeedBusyError(Exception):
    """The video has a publisher already."""


class LiveReader:
    """Packets of one feed, one after another, until it ends. Use as `async with`; iterate in one task."""

    def __init__(self, feed: LiveFeed, first: list[LivePacket]) -> None:
        self._feed = feed
        self._waiting: deque[LivePacket] = deque(first)
        self._bytes = sum(len(packet.data) for packet in first)
        self._allowance = len(first)
        self._until_keyframe = not first
        self._ended = False
        self._news = asyncio.Event()
        self.dropped = 0
        """Packets that this reader was too slow for, or that stood before its first keyframe."""

    @property
    def reason(self) -> str:
        """Why the feed ended, once it has; empty where its publisher ended it."""
        return self._feed.reason

    def __aiter__(self) -> LiveReader:
        return self

    async def __anext__(self) -> LivePacket:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        packet = self._waiting.popleft()
        self._bytes -= len(packet.data)
        self._allowance = max(0, self._allowance - 1)
        return packet

    def offer(self, packet: LivePacket) -> None:
        """For the feed."""
        if packet.keyframe:
            self._until_keyframe = False
        if self._until_keyframe or self._is_full(packet):
            self._until_keyframe = True
            self.dropped += 1
            return
        self._waiting.append(packet)
        self._bytes += len(packet.data)
        self._news.set()

    def end(self) -> None:
        """For the feed: nothing comes after what waits."""
        self._ended = True
        self._news.set()

    def _is_full(self, packet: LivePacket) -> bool:
        if len(self._waiting) <= self._allowance:
            return False
        oldest = self._waiting[self._allowance]
        return (
            self._bytes + len(packet.data) > READER_BYTES + GROUP_BYTES
            or packet.dts - oldest.dts > READER_SECONDS * CLOCK_RATE
        )

    async def __aenter__(self) -> LiveReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.forget(self)


class LiveFeed:
    """One connection of one publisher. `reason`: why it ended, once it has; empty where its publisher ended it."""

    def __init__(self, video_id: str) -> None:
        self.video_id = video_id
        self.ended = False
        self.reason = ""
        self.ask_keyframe: Callable[[], None] | None = None
        """Asks the publisher for a keyframe, where its protocol knows a way (WebRTC); its owner limits how often."""
        self.dismissed = asyncio.Event()
        """Set when the video takes no more: its publisher is to leave. `dismissal`: why, for the publisher."""
        self.dismissal = ""
        self.group_seconds: float | None = None
        """From the keyframe before the newest one to the newest one; None before there were two."""
        self._keyframe: LivePacket | None = None
        self._group: list[LivePacket] = []
        self._group_bytes = 0
        self._readers: set[LiveReader] = set()

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def newest_group(self) -> list[LivePacket]:
        """The newest keyframe and what followed it so far; empty where that is not kept."""
        return list(self._group)

    def publish(self, packet: LivePacket) -> None:
        """Hand `packet` to every reader. Never waits. After the end it does nothing."""
        if self.ended:
            return
        self._keep(packet)
        for reader in self._readers:
            reader.offer(packet)

    def read(self, *, past: bool = True) -> LiveReader:
        """A reader that begins with the newest group of pictures, or without `past` with the next keyframe."""
        reader = LiveReader(self, list(self._group) if past else [])
        if self.ended:
            reader.end()
        else:
            self._readers.add(reader)
        return reader

    def end(self, reason: str = "") -> None:
        """No more will come. Idempotent."""
        if not self.ended:
            self.ended, self.reason = True, reason
            for reader in self._readers:
                reader.end()

    def dismiss(self, reason: str) -> None:
        """The video takes no more: the feed ends in order, and its publisher is told. Idempotent."""
        self.end()
        if not self.dismissed.is_set():
            self.dismissal = reason
            self.dismissed.set()

    def forget(self, reader: LiveReader) -> None:
        """For the reader, when it leaves."""
        self._readers.discard(reader)

    def _keep(self, packet: LivePacket) -> None:
        if packet.keyframe:
            if self._keyframe is not None:
                self.group_seconds = (packet.dts - self._keyframe.dts) / CLOCK_RATE
            self._keyframe = packet
            self._group, self._group_bytes = [], 0
        elif not self._group:
            return
        self._group.append(packet)
        self._group_bytes += len(packet.data)
        too_long = packet.dts - self._group[0].dts > GROUP_SECONDS * CLOCK_RATE
        if too_long or self._group_bytes > GROUP_BYTES:
            self._group, self._group_bytes = [], 0


class LiveFeeds:
    """The feeds that have a publisher now, by video."""

    def __init__(self) -> None:
        self._feeds: dict[str, LiveFeed] = {}
        self._opened = asyncio.Event()

    def __len__(self) -> int:
        return len(self._feeds)

    def open(self, video_id: str) -> LiveFeed:
        """A new connection of a publisher; `close` it. Raises FeedBusyError."""
        if video_id in self._feeds:
            raise FeedBusyError(
                f"video {video_id} is being published already; end that first, or use another key"
            )
        feed = self._feeds[video_id] = LiveFeed(video_id)
        self._opened.set()
        return feed

    def get(self, video_id: str) -> LiveFeed | None:
        return self._feeds.get(video_id)

    async def wait_for(self, video_id: str) -> LiveFeed:
        """The feed of the video's publisher, as soon as there is one."""
        while (feed := self.get(video_id)) is None or feed.ended:
            self._opened.clear()
            await self._opened.wait()
        return feed

    def close(self, feed: LiveFeed, reason: str = "") -> None:
        """The publisher has gone: `reason`, where it did not end in order. Idempotent."""
        feed.end(reason)
        if self._feeds.get(feed.video_id) is feed:
            del self._feeds[feed.video_id]
