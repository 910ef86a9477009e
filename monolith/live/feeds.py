"""From one publisher to many who read: bounded for each of them, and nobody waits for another.

Rules:
- A video has one publisher at a time.
- A reader begins with the newest group of pictures (a keyframe and what follows it), as far as it is kept.
- A reader who does not keep up loses packets, never the publisher: everything up to the next keyframe, counted. The
  publisher is asked for one as soon as the reader has worked off what waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from monolith.live.packets import CLOCK_RATE, LivePacket

GROUP_BYTES: Final = 16 << 20
"""By `LivePacket.cost`, as all that is bounded here."""
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
        self._bytes = sum(packet.cost for packet in first)
        self._allowance = len(first)
        self._until_keyframe = not first
        self._ended = False
        self._news = asyncio.Event()
        self._begun = bool(first)
        self._gaps: deque[tuple[LivePacket, int]] = deque()
        """Packets that wait, and how many were lost just before each."""
        self._lost = 0
        self._lost_last = 0
        self.dropped = 0
        """Packets that this reader was too slow for, or that stood before its first keyframe."""

    @property
    def reason(self) -> str:
        """Why the feed ended, once it has; empty where its publisher ended it."""
        return self._feed.reason

    @property
    def waiting(self) -> int:
        """Packets that wait."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """Packets that were lost behind those that were given, since it began with a keyframe."""
        return self._lost + sum(lost for _, lost in self._gaps)

    def take_lost(self) -> int:
        """Packets that were lost just before the one that was given last, or before the end; told once."""
        lost, self._lost_last = self._lost_last, 0
        return lost

    def miss(self, count: int) -> None:
        """So many more were lost before those that wait."""
        self._begun = True
        if self._waiting and count:
            self._gaps.appendleft((self._waiting[0], count))
        else:
            self._lost += count

    def __aiter__(self) -> LiveReader:
        return self

    async def __anext__(self) -> LivePacket:
        while not self._waiting:
            if self._ended:
                self._lost_last, self._lost = self._lost_last + self._lost, 0
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        packet = self._waiting.popleft()
        self._bytes -= packet.cost
        self._allowance = max(0, self._allowance - 1)
        while self._gaps and self._gaps[0][0] is packet:
            self._lost_last += self._gaps.popleft()[1]
        return packet

    def offer(self, packet: LivePacket) -> None:
        """For the feed."""
        if packet.keyframe:
            self._until_keyframe = False
        if self._until_keyframe or self._is_full(packet):
            self._until_keyframe = True
            self.dropped += 1
            if not self._waiting:
                self._feed.want_keyframe()
            self._lost += self._begun
            return
        if self._lost:
            self._gaps.append((packet, self._lost))
            self._lost = 0
        self._begun = True
        self._waiting.append(packet)
        self._bytes += packet.cost
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
            self._bytes + packet.cost > READER_BYTES + GROUP_BYTES
            or packet.dts - oldest.dts > READER_SECONDS * CLOCK_RATE
        )

    async def __aenter__(self) -> LiveReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.forget(self)


class NewestGroup:
    """The newest keyframe and what followed it, as far as that is neither too long nor too large to be kept."""

    def __init__(self) -> None:
        self.packets: list[LivePacket] = []
        self.seconds: float | None = None
        """From the keyframe before the newest one to the newest one; None before there were two."""
        self.bit_rate = 0.0
        """Bits/s of the group before this one; 0 before there was one, or where it was not kept."""
        self._keyframe_at: int | None = None
        self._bytes = self._cost = 0

    def add(self, packet: LivePacket) -> None:
        if packet.keyframe:
            if self._keyframe_at is not None:
                self.seconds = (packet.dts - self._keyframe_at) / CLOCK_RATE
                self.bit_rate = self._bytes * 8 / max(self.seconds, 1 / CLOCK_RATE)
            self._keyframe_at = packet.dts
            self._clear()
        elif not self.packets:
            return
        self.packets.append(packet)
        self._bytes += len(packet.data)
        self._cost += packet.cost
        too_long = packet.dts - self.packets[0].dts > GROUP_SECONDS * CLOCK_RATE
        if too_long or self._cost > GROUP_BYTES:
            self._clear()

    def _clear(self) -> None:
        self.packets, self._bytes, self._cost = [], 0, 0


class LiveFeed:
    """One connection of one publisher, or to one source that is followed. `reason`: why it ended, once it has; empty
    where its publisher ended it, or the source came to its end."""

    def __init__(self, video_id: str, *, pushed: bool = True) -> None:
        self.video_id = video_id
        self.pushed = pushed
        self.opened_at = time.monotonic()
        self.ended = False
        self.reason = ""
        self.ask_keyframe: Callable[[], None] | None = None
        """Asks the publisher for a keyframe, where its protocol knows a way (WebRTC); its owner limits how often."""
        self.dismissed = asyncio.Event()
        """Set when the video takes no more: its publisher is to leave. `dismissal`: why, for the publisher."""
        self.dismissal = ""
        self.readers_changed: Callable[[], None] | None = None
        """Told when a reader comes or goes."""
        self.begun: Callable[[], None] | None = None
        """Told of the first keyframe, after the readers."""
        self.silent_seconds: Callable[[], float] | None = None
        """For how long its publisher has said nothing, where its connection does not tell for long that it is gone
        (RTMP)."""
        self._group = NewestGroup()
        self._readers: set[LiveReader] = set()

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def newest_group(self) -> list[LivePacket]:
        """The newest keyframe and what followed it so far; empty where that is not kept."""
        return list(self._group.packets)

    @property
    def group_seconds(self) -> float | None:
        """From the keyframe before the newest one to the newest one; None before there were two."""
        return self._group.seconds

    @property
    def bit_rate(self) -> float:
        """Bits/s of the last whole group of pictures; 0 where that is not known."""
        return self._group.bit_rate

    def begin_anew(self, group_seconds: float | None = None) -> None:
        """What is kept is old: the next keyframe is the newest. `group_seconds`: as far as it is known already."""
        self._group = NewestGroup()
        self._group.seconds = group_seconds

    def want_keyframe(self) -> None:
        """Ask the publisher for a keyframe, where there is a way."""
        if self.ask_keyframe is not None:
            self.ask_keyframe()

    def publish(self, packet: LivePacket) -> None:
        """Hand `packet` to every reader. Never waits. After the end it does nothing."""
        if self.ended:
            return
        self._group.add(packet)
        for reader in self._readers:
            reader.offer(packet)
        if packet.keyframe and self.begun is not None:
            begun, self.begun = self.begun, None
            begun()

    def read(self, *, past: bool = True) -> LiveReader:
        """A reader that begins with the newest group of pictures, or without `past` with the next keyframe."""
        reader = LiveReader(self, self.newest_group if past else [])
        if self.ended:
            reader.end()
        else:
            self._readers.add(reader)
            self._tell()
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
        self._tell()

    def _tell(self) -> None:
        if self.readers_changed is not None:
            self.readers_changed()


class LiveFeeds:
    """The feeds that have a publisher now, or a source that gives packets, by video."""

    def __init__(self) -> None:
        self._feeds: dict[str, LiveFeed] = {}
        self._opened = asyncio.Event()

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def published(self) -> int:
        """Those of publishers; the others are of sources that are followed."""
        return sum(feed.pushed for feed in self._feeds.values())

    def open(self, video_id: str, *, pushed: bool = True) -> LiveFeed:
        """A new connection; `close` it. Raises FeedBusyError."""
        if video_id in self._feeds:
            raise FeedBusyError(
                f"video {video_id} is being published already; end that first, or use another key"
            )
        feed = self._feeds[video_id] = LiveFeed(video_id, pushed=pushed)
        self._opened.set()
        return feed

    def get(self, video_id: str) -> LiveFeed | None:
        """What may give more packets; not one that has ended and is not closed yet."""
        feed = self._feeds.get(video_id)
        return None if feed is None or feed.ended else feed

    async def wait_for(self, video_id: str) -> LiveFeed:
        """The feed of the video's publisher, as soon as there is one."""
        while (feed := self.get(video_id)) is None:
            self._opened.clear()
            await self._opened.wait()
        return feed

    def close(self, feed: LiveFeed, reason: str = "") -> None:
        """The publisher has gone: `reason`, where it did not end in order. Idempotent."""
        feed.end(reason)
        if self._feeds.get(feed.video_id) is feed:
            del self._feeds[feed.video_id]
