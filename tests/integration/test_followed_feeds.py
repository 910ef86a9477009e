"""From the decoder of a live source to who watches: the real socket, the threads of a decoder, a clip as the source."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from av.packet import Packet

from monolith.ingest.messages import FeedAccess
from monolith.ingest.reader import OpenVideo, open_video
from monolith.live.feeds import LiveFeed, LiveReader
from monolith.live.followed import receiving
from monolith.live.followed.tap import Tap
from monolith.live.handover import FeedHandover
from monolith.live.packets import CLOCK_RATE
from tests.pushed import Pushed
from tests.videos import Recipe, make_video

GOP = 10
STEP = CLOCK_RATE // 25
SECONDS = 60


class World:
    """The program's side, and a source whose packets come when the test says."""

    def __init__(self, folder: Path, video: OpenVideo) -> None:
        self.sources = Pushed(folder).sources
        self.handover = FeedHandover(self.sources, folder / "run" / "live.sock")
        self._video = video
        self._packets: Iterator[Packet[Any]] = (one for one in video.packets() if one.size)

    def tap(self, *, bursts: bool = False) -> Tap:
        tap = Tap(FeedAccess(*self.handover.accept("v")), bursts=bursts)
        tap.start()
        tap.begin(self._video)
        return tap

    def give(self, tap: Tap, count: int) -> None:
        for _ in range(count):
            tap.put(next(self._packets))

    async def feed(self) -> LiveFeed:
        async with asyncio.timeout(SECONDS):
            return await self.sources.feeds.wait_for("v")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with open_video(make_video(tmp_path, Recipe(frames=60, gop=GOP))) as video:
        world = World(tmp_path, video)
        async with world.handover.serving():
            yield world


async def some(reader: LiveReader, count: int) -> list[int]:
    """Numbers of the next pictures, from 0."""
    async with asyncio.timeout(SECONDS):
        return [round((await anext(reader)).pts / STEP) for _ in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def ended(tap: Tap, reason: str) -> None:
    await asyncio.to_thread(tap.end, reason)


async def test_who_watches_gets_the_newest_group_at_once_and_then_what_comes(world: World) -> None:
    tap = world.tap()
    world.give(tap, 25)
    feed = await world.feed()
    assert (len(world.sources.feeds), world.sources.feeds.published) == (1, 0)
    before = time.time()
    async with feed.read() as reader:
        assert await some(reader, 5) == [20, 21, 22, 23, 24]
        assert feed.group_seconds == pytest.approx(GOP / 25)
        assert len(feed.newest_group) == 5
        assert all(one.arrived <= before for one in feed.newest_group)
        world.give(tap, 7)
        assert await some(reader, 7) == list(range(25, 32))
        await ended(tap, "")
        assert [one async for one in reader] == []
    assert (feed.ended, feed.reason) == (True, "")
    await until(lambda: len(world.sources.feeds) == 0)


async def test_nothing_is_sent_while_nobody_watches_and_what_was_kept_is_not_shown_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_UNWATCHED_SECONDS", 0.0)
    tap = world.tap()
    world.give(tap, 12)
    feed = await world.feed()
    assert feed.newest_group == []
    async with feed.read() as reader:
        assert await some(reader, 2) == [10, 11]
    await until(lambda: feed.newest_group == [])
    world.give(tap, 20)
    async with feed.read() as reader:
        assert await some(reader, 2) == [30, 31]
    await ended(tap, "")


async def test_why_a_connection_broke_is_told_and_the_next_one_takes_its_place(world: World) -> None:
    first = world.tap()
    world.give(first, 3)
    feed = await world.feed()
    async with feed.read() as reader:
        await some(reader, 3)
        await ended(first, "the server closed the connection")
        assert [one async for one in reader] == []
    assert feed.reason == "the server closed the connection"
    second = world.tap()
    world.give(second, 20)
    assert await world.feed() is not feed
    await ended(second, "")


async def test_a_decoder_that_dies_breaks_its_feed_off(world: World) -> None:
    tap = world.tap()
    world.give(tap, 3)
    feed = await world.feed()
    async with feed.read() as reader:
        await some(reader, 3)
        tap._close()
        assert [one async for one in reader] == []
    assert feed.reason == "the decoder of the source broke off"
    await ended(tap, "")


async def test_another_decoder_of_the_same_video_takes_over(world: World) -> None:
    first, second = world.tap(), world.tap()
    world.give(first, 3)
    feed = await world.feed()
    world.give(second, 12)
    await until(lambda: feed.ended)
    newer = await world.feed()
    await ended(first, "late")
    assert (feed.reason, newer.ended) == ("the source was connected to again", False)
    await ended(second, "")


async def test_nobody_brings_packets_without_an_invitation(world: World) -> None:
    access = world.handover.accept("v")
    tap = Tap(FeedAccess(access.address, "0" * 32), bursts=False)
    tap.start()
    with open_video(Path(world._video.container.name.removeprefix("file:"))) as video:
        tap.begin(video)
        world.give(tap, 3)
        await until(lambda: tap._lost)
    assert len(world.sources.feeds) == 0
    await ended(tap, "")


async def test_what_is_no_message_ends_the_connection(world: World) -> None:
    address, token = world.handover.accept("v")
    reader, writer = await asyncio.open_unix_connection(address)
    with contextlib.closing(writer):
        writer.write(token.encode() + b"\xff\xff\xff\xff")
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""


async def test_a_burst_is_spread_over_its_time(world: World) -> None:
    """Half a second of pictures comes at once: they arrive one after another, and at its end all of them."""
    tap = world.tap(bursts=True)
    feed_is_there = asyncio.create_task(world.feed())
    world.give(tap, 13)
    feed = await feed_is_there
    async with feed.read() as reader:
        assert await some(reader, 13) == list(range(13))
        arrived = [one.arrived for one in feed.newest_group]
        assert arrived == sorted(arrived) and arrived[-1] > arrived[0]
        world.give(tap, 47)
        await ended(tap, "")
        assert await some(reader, 47) == list(range(13, 60))
