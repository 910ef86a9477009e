"""In the program: what decoder processes read of live sources, as feeds for those who watch."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from monolith.ingest.live_source import LENGTH, MOST_BYTES
from monolith.live.feeds import LiveFeed, LiveFeeds
from monolith.live.followed.messages import UNWATCHED, WATCHED, Begun, Ended, FromSource, Pictures

_BROKE_OFF: Final = "the decoder of the source broke off"
_REPLACED: Final = "the source was connected to again"
_UNWATCHED_SECONDS: Final = 10.0
"""So long after the last reader packets still come: players and encoders change what they read."""
_DECODER: Final = msgspec.msgpack.Decoder(FromSource)

logger = logging.getLogger(__name__)


class FollowedFeeds:
    """Receives from decoder processes."""

    def __init__(self, feeds: LiveFeeds) -> None:
        self._feeds = feeds
        self._newest: dict[str, LiveFeed] = {}
        self.dropped = 0
        """Packets that this program was too slow for."""

    async def receive(
        self, video_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection to its end. Raises asyncio.IncompleteReadError, OSError, msgspec.DecodeError."""
        if not isinstance(await _hear(reader), Begun):
            return
        feed = self._opened(video_id)
        link = _Link(feed, writer)
        reason = _BROKE_OFF
        try:
            while not isinstance(message := await _hear(reader), Ended):
                if isinstance(message, Pictures):
                    self.dropped += message.dropped
                    link.publish(message)
            reason = message.reason
        finally:
            link.close()
            self._close(feed, reason)

    def _opened(self, video_id: str) -> LiveFeed:
        """An earlier connection that has not ended yet is over: its source is read by another decoder now."""
        earlier = self._newest.get(video_id)
        if earlier is not None:
            self._close(earlier, _REPLACED)
        feed = self._newest[video_id] = self._feeds.open(video_id, pushed=False)
        return feed

    def _close(self, feed: LiveFeed, reason: str) -> None:
        self._feeds.close(feed, reason)
        if self._newest.get(feed.video_id) is feed:
            del self._newest[feed.video_id]


class _Link:
    """Tells a decoder whether its feed is read, and publishes what comes while it is."""

    def __init__(self, feed: LiveFeed, writer: asyncio.StreamWriter) -> None:
        self._feed = feed
        self._writer = writer
        self._watched = False
        self._begun = False
        """Whether the newest group has come since somebody watches: what comes before it was under way earlier."""
        self._linger: asyncio.TimerHandle | None = None
        feed.readers_changed = self._readers_changed
        self._readers_changed()

    def publish(self, pictures: Pictures) -> None:
        """All at once: whoever reads then finds the whole group."""
        if not self._watched:
            return
        if pictures.newest_group:
            self._begun = True
            self._feed.begin_anew(pictures.group_seconds)
        if self._begun:
            for packet in pictures.packets:
                self._feed.publish(packet)

    def close(self) -> None:
        self._feed.readers_changed = None
        self._stop_linger()

    def _readers_changed(self) -> None:
        self._stop_linger()
        if self._feed.readers and not self._watched:
            self._say(True)
        elif not self._feed.readers and self._watched:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(_UNWATCHED_SECONDS, self._say, False)

    def _say(self, watched: bool) -> None:
        self._watched, self._begun = watched, False
        if not watched:
            self._feed.begin_anew()
        if not self._writer.is_closing():  # uvloop raises where the decoder has just died
            self._writer.write(WATCHED if watched else UNWATCHED)  # few bytes, and seldom

    def _stop_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None


async def _hear(reader: asyncio.StreamReader) -> FromSource:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MOST_BYTES:
        raise msgspec.DecodeError(f"a message of {length} bytes")
    message: FromSource = _DECODER.decode(await reader.readexactly(length))
    return message
