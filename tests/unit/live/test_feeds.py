from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from monolith.live.feeds import (
    GROUP_BYTES,
    GROUP_SECONDS,
    READER_BYTES,
    READER_SECONDS,
    FeedBusyError,
    LiveFeed,
    LiveFeeds,
    LiveReader,
)
from monolith.live.packets import CLOCK_RATE, PACKET_BYTES, LivePacket, VideoFormat

FORMAT = VideoFormat("h264", b"avcC")
FRAME = CLOCK_RATE // 25


def packet(number: int, *, keyframe: bool = False, size: int = 10) -> LivePacket:
    return LivePacket(FORMAT, bytes(size), number * FRAME, number * FRAME, keyframe, 0.0)


def publish(feed: LiveFeed, numbers: Iterable[int], keyframes: Iterable[int] = ()) -> None:
    for number in numbers:
        feed.publish(packet(number, keyframe=number in set(keyframes)))


async def rest(reader: LiveReader) -> list[int]:
    async with asyncio.timeout(60), reader:
        return [one.pts // FRAME async for one in reader]


async def test_a_reader_begins_with_the_newest_group_and_ends_with_the_feed() -> None:
    feeds = LiveFeeds()
    feed = feeds.open("v")
    publish(feed, range(7), keyframes=(0, 5))
    reader = feed.read()
    publish(feed, range(7, 9))
    feeds.close(feed, "the network is gone")
    assert await rest(reader) == [5, 6, 7, 8]
    assert (feed.reason, feed.readers, len(feeds)) == ("the network is gone", 0, 0)
    assert await rest(feed.read()) == [5, 6, 7, 8]


async def test_a_reader_without_a_group_waits_for_a_keyframe() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    publish(feed, range(5), keyframes=(3,))
    feed.end()
    assert await rest(reader) == [3, 4]
    assert reader.dropped == 3


async def test_a_slow_reader_loses_up_to_the_next_keyframe_and_others_nothing() -> None:
    feed = LiveFeed("v")
    slow, quick = feed.read(), feed.read()
    most = int(READER_SECONDS * 25)
    seen = []
    for number in range(most + 20):
        publish(feed, (number,), keyframes=(0, most + 10))
        seen.append((await anext(quick)).pts // FRAME)
    feed.end()
    assert seen == list(range(most + 20))
    got = await rest(slow)
    assert got == list(range(most + 1)), "nothing more is taken while the oldest still waits"
    assert slow.dropped == 19


async def test_a_reader_that_caught_up_goes_on_at_the_next_keyframe() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    most = int(READER_SECONDS * 25)
    publish(feed, range(most + 5), keyframes=(0,))
    for _ in range(most + 1):
        await anext(reader)
    publish(feed, range(most + 5, most + 10), keyframes=(most + 7,))
    feed.end()
    assert await rest(reader) == [most + 7, most + 8, most + 9]
    assert reader.dropped == 6


async def test_a_reader_tells_what_it_lost_where_it_lost_it() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    most = int(READER_SECONDS * 25)
    publish(feed, range(3))
    publish(feed, range(3, most + 20), keyframes=(3,))
    assert (reader.lost, reader.take_lost()) == (16, 0)
    for number in range(3, most + 4):
        assert ((await anext(reader)).pts // FRAME, reader.take_lost()) == (number, 0)
    publish(feed, range(most + 20, most + 30), keyframes=(most + 25,))
    assert ((await anext(reader)).pts // FRAME, reader.take_lost()) == (most + 25, 21)
    reader.miss(7)
    assert ((await anext(reader)).pts // FRAME, reader.take_lost()) == (most + 26, 7)
    assert (reader.lost, reader.take_lost()) == (0, 0)


async def test_what_is_lost_behind_the_last_packet_is_told_at_the_end() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    publish(feed, range(int(READER_SECONDS * 25) + 20), keyframes=(0,))
    feed.end()
    await rest(reader)
    assert (reader.take_lost(), reader.take_lost()) == (19, 0)


async def test_many_packets_of_one_time_take_bounded_memory() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    small = LivePacket(FORMAT, b"1", 0, 0, False, 0.0)
    feed.publish(packet(0, keyframe=True))
    many = (READER_BYTES + GROUP_BYTES) // PACKET_BYTES
    for _ in range(many):
        feed.publish(small)
    assert feed.newest_group == []
    assert reader.waiting + reader.lost == many + 1
    assert reader.waiting * small.cost <= READER_BYTES + GROUP_BYTES


async def test_configurations_take_bounded_memory_too() -> None:
    feed = LiveFeed("v")
    reader = feed.read()
    for number in range(100):
        large = VideoFormat("h264", number.to_bytes(1) + bytes(1 << 20))
        feed.publish(LivePacket(large, b"1", 0, 0, number == 0, 0.0))
    assert (reader.waiting, reader.lost, feed.newest_group) == (31, 69, [])


async def test_a_group_that_is_too_long_is_not_kept() -> None:
    feed = LiveFeed("v")
    publish(feed, range(int(GROUP_SECONDS * 25) + 5), keyframes=(0,))
    reader = feed.read()
    feed.end()
    assert await rest(reader) == []


def test_a_video_has_one_publisher() -> None:
    feeds = LiveFeeds()
    first = feeds.open("v")
    with pytest.raises(FeedBusyError, match="being published already"):
        feeds.open("v")
    feeds.close(first)
    second = feeds.open("v")
    feeds.close(first)
    assert feeds.get("v") is second


async def test_a_publisher_who_can_be_asked_is_asked_for_a_keyframe() -> None:
    """By who joins where no group is kept, and by who has worked off what waited after a loss; by nobody else."""
    feed, asked = LiveFeed("v"), 0

    def ask() -> None:
        nonlocal asked
        asked += 1

    feed.ask_keyframe = ask
    slow = feed.read()
    long = int((GROUP_SECONDS + 1) * 25)
    publish(feed, range(long), keyframes=(0,))
    assert (asked, feed.newest_group) == (0, [])
    async with asyncio.timeout(60):
        for _ in range(int(READER_SECONDS * 25) + 1):
            await anext(slow)
    publish(feed, (long,))
    assert asked == 1
    late = feed.read()
    publish(feed, (long + 1,), keyframes=(long + 1,))
    assert asked == 1
    feed.end()
    assert await rest(slow) == await rest(late) == [long + 1]


async def test_a_publisher_is_asked_by_who_joins_where_no_group_is_kept() -> None:
    feed, asked = LiveFeed("v"), []
    publish(feed, range(int((GROUP_SECONDS + 1) * 25)), keyframes=(0,))
    feed.ask_keyframe = lambda: asked.append(True)
    async with feed.read():
        publish(feed, (1000,))
    assert asked
