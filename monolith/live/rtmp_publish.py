"""One publish of an RTMP connection, and how much the connection may send."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from monolith.live.feeds import LiveFeed
from monolith.live.rtmp_packets import PacketMaker
from monolith.protocols.rtmp.events import PublishRequested, VideoMessage

_BURST_SECONDS: Final = 10.0


class Publish:
    """From its request on. `feed`: once its key was looked up; `early`: what came before. `over`: set when nothing more
    comes of it; `in_order`: since its publisher said so."""

    def __init__(self, request: PublishRequested) -> None:
        self.request = request
        self.early: list[VideoMessage] = []
        self.feed: LiveFeed | None = None
        self.over = asyncio.Event()
        self.in_order = False
        self._packets = PacketMaker()

    def hand_on(self, feed: LiveFeed, message: VideoMessage) -> None:
        """Raises ProtocolError where it is no video for this program."""
        packet = self._packets.packet(message.data, message.timestamp_ms, time.time())
        if packet is not None:
            feed.publish(packet)

    def end(self) -> None:
        """By its publisher."""
        self.in_order = True
        if self.feed is not None:
            self.feed.end()
        self.over.set()


class Credit:
    """Bytes or messages that may come: `rate` of them a second, saved up for some seconds. Times are of a steady
    clock, in seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = rate * _BURST_SECONDS
        self._since = now

    def take(self, size: int, now: float) -> bool:
        """Whether there was so much."""
        self._left = min(self._rate * _BURST_SECONDS, self._left + (now - self._since) * self._rate) - size
        self._since = now
        return self._left >= 0
