"""Pictures that a decoder process is too slow for have numbers, and are told as lost. A real decoder follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.messages import FollowSource
from monolith.live.feeds import LiveFeed
from monolith.live.packets import LivePacket
from tests.integration.followed import Story, access_to, follow, follow_request
from tests.integration.test_handover import Served
from tests.live_clips import packets_of
from tests.videos import Recipe, make_video

GOP = 25
STEP = 5
DEADLINE = 60.0


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    """So many that no picture of a live source is lost for want of one, however busy the machine."""
    slots = FrameSlots.create(64, 640 * 480 * 3)
    yield slots
    slots.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    async with served.handover.serving():
        yield served


@pytest.fixture
async def pool(slots: FrameSlots) -> AsyncIterator[DecoderPool]:
    async with DecoderPool(slots, 1) as pool:
        yield pool


def clip(folder: Path, frames: int) -> list[LivePacket]:
    """25 pictures a second, numbered from 1; a second in each group."""
    return packets_of(make_video(folder, Recipe(frames=frames, gop=GOP)))


def request_to(served: Served, folder: Path) -> FollowSource:
    access = served.access()
    followed = access_to(access.url, "rtmp", token=access.token)
    return follow_request(followed, folder, live=True, frame_step=STEP)


async def test_what_came_too_long_before_its_follower_has_numbers(
    served: Served, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    async with served.sources.publisher("v") as feed:
        for one in clip(tmp_path, 8 * GOP):
            feed.publish(one)
        feed.end()
        async with asyncio.timeout(DEADLINE):
            story = await follow(pool, slots, request_to(served, tmp_path), tmp_path)
    newest = 7 * GOP
    assert story.lost == list(range(STEP, newest + 1, STEP))
    assert story.shown == {number: number for number in range(newest + STEP, 8 * GOP + 1, STEP)}
    assert story.connected is not None and story.connected.first_frame == newest + 1
    assert story.segments[0].reasons == ["the decoder was busy with earlier pictures until this one was gone"]


async def test_what_was_lost_in_the_midst_and_at_the_end_has_numbers(
    served: Served, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    """A flood overtakes the decoder twice; the second time nothing comes behind it."""
    pictures = clip(tmp_path, 22 * GOP)
    flood = pictures[10 : 8 * GOP]
    async with served.sources.publisher("v") as feed, asyncio.timeout(DEADLINE):
        reached = Reached()
        for one in pictures[:10]:
            feed.publish(one)
        following = asyncio.create_task(
            follow(pool, slots, request_to(served, tmp_path), tmp_path, until=reached.note)
        )
        await reached.frame(STEP)
        await lose(feed, flood, reached)
        await lose(feed, pictures[8 * GOP :], reached)
        feed.end()
        story = await following
    assert sorted([*story.lost, *story.numbers]) == list(range(STEP, 22 * GOP + 1, STEP))
    assert story.shown == {number: number % 256 for number in story.numbers}  # a bar code has eight bits
    gaps = [
        later for earlier, later in zip(story.lost, story.lost[1:], strict=False) if later > earlier + STEP
    ]
    assert len(gaps) == 1 and story.lost[-1] == 22 * GOP
    assert story.done is not None and (story.done.end_of_source, story.done.last_frame) == (True, 22 * GOP)


class Reached:
    """How far a story is."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.newest = 0

    def note(self, story: Story) -> bool:
        self.newest = max(story.numbers, default=0)
        self._news.set()
        return False

    async def frame(self, number: int) -> None:
        while self.newest < number:
            self._news.clear()
            await self._news.wait()


async def lose(feed: LiveFeed, pictures: list[LivePacket], reached: Reached) -> None:
    """All at once: more than may wait. Then the decoder catches up with what was taken."""
    before = reached.newest
    for one in pictures:
        feed.publish(one)
    await reached.frame(before + 4 * GOP)
