from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
import uvloop

from monolith.ingest.live_source import LENGTH
from monolith.live.feeds import LiveFeed, LiveFeeds
from monolith.live.followed.messages import Begun
from monolith.live.followed.receiving import FollowedFeeds

WAIT = 60.0


def test_a_decoder_that_has_just_gone_is_not_told_that_somebody_watches() -> None:
    """uvloop raises a RuntimeError for what is written to a connection that is closed."""

    async def watch() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            heard = asyncio.StreamReader()  # it does not know of the end yet
            feeds = LiveFeeds()
            receiving = asyncio.create_task(FollowedFeeds(feeds).receive("video", heard, writer))
            begun = msgspec.msgpack.encode(Begun())
            heard.feed_data(LENGTH.pack(len(begun)) + begun)
            feed = await _feed_of(feeds, "video")
            writer.close()
            await writer.wait_closed()
            feed.read()
            heard.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError):
                await receiving
            assert feed.ended

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watch())


async def _feed_of(feeds: LiveFeeds, video_id: str) -> LiveFeed:
    async with asyncio.timeout(WAIT):
        while (feed := feeds.get(video_id)) is None:
            await asyncio.sleep(0)
    return feed
