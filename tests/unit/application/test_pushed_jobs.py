"""Videos that are pushed, from the submission to the end, as the process manager leads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from monolith.application.errors import RetryableFailure
from monolith.application.push_sources import PushEndpoint
from monolith.domain.segment import SourceInfo
from monolith.ingest.messages import SourceAccess
from monolith.live.feeds import LiveFeed
from tests.builders import followed
from tests.pushed import packet
from tests.unit.application.scripted_sources import Connection
from tests.unit.application.test_process_manager import MODELS, World, until_gone

LIVE = followed(live=True, transport="rtmp").source


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for module in ("scheduler", "following", "ingestion", "segments"):
        monkeypatch.setattr(f"monolith.application.{module}._FIRST_PAUSE", 0.001)
    made = World(tmp_path)
    made.decoders.info = LIVE
    return made


async def endpoint(world: World) -> PushEndpoint:
    return await world.push.create("rtmp", models=MODELS)


async def until_requests(world: World, count: int) -> None:
    async with asyncio.timeout(60):
        while len(world.decoders.requests) < count:
            await asyncio.sleep(0.002)


async def until_connections(world: World, made: PushEndpoint, count: int, *, now: bool) -> None:
    async with asyncio.timeout(60):
        while True:
            video = await world.streams.load(made.video_id)
            if (video.connections, video.connected) == (count, now):
                return
            await asyncio.sleep(0.002)


@asynccontextmanager
async def publishing(world: World, made: PushEndpoint) -> AsyncIterator[LiveFeed]:
    async with world.push.publisher(made.video_id) as feed:
        feed.publish(packet(0, keyframe=True))
        yield feed


def followed_by_now(world: World, made: PushEndpoint) -> None:
    """What a decoder process does when it connects: the scripted ones do not."""
    reader = world.push.read(made.video_id, look=False)
    assert reader is not None


async def test_it_waits_for_its_publisher_and_costs_no_place(world: World) -> None:
    world.decoders.last = Connection(pictures=5)
    async with world.running() as manager:
        made = await endpoint(world)
        await asyncio.sleep(0.05)
        assert (await world.run_of(made.submitted)).active and world.decoders.probed == []
        lanes = manager.scheduler.lanes()
        assert (lanes["pushed"].running, lanes["live_probe"].running, lanes["live"].running) == (1, 0, 0)
        async with publishing(world, made):
            run = await world.until(made.submitted, "completed")
        await until_gone(world.folder / "secrets" / made.video_id)
    assert run.frames == 5
    looked, asked = world.decoders.probed[0], world.decoders.requests[0].access
    assert (looked.transport, asked.transport) == ("rtmp", "rtmp")
    assert looked.token != asked.token and looked.url == asked.url


async def test_who_breaks_off_is_waited_for(world: World) -> None:
    world.decoders.connections += [Connection(pictures=3, broken="broke off"), Connection(pictures=4)]
    async with world.running():
        made = await endpoint(world)
        async with publishing(world, made):
            await until_connections(world, made, 1, now=False)
            followed_by_now(world, made)
        before = len(world.decoders.requests)
        await asyncio.sleep(0.05)
        assert len(world.decoders.requests) in (before, before + 1)
        async with publishing(world, made):
            run = await world.until(made.submitted, "completed")
    assert run.frames == 7
    video = await world.streams.load(made.video_id)
    assert (video.connections, len(video.segments)) == (2, 2)


async def test_a_restart_waits_again(world: World) -> None:
    world.decoders.connections.append(Connection(pictures=3, hangs=True))
    world.decoders.last = Connection(pictures=4)
    async with world.running():
        made = await endpoint(world)
        async with publishing(world, made):
            await until_connections(world, made, 1, now=True)
            followed_by_now(world, made)
    async with world.running():
        await asyncio.sleep(0.05)
        assert len(world.decoders.requests) == 1
        async with publishing(world, made):
            run = await world.until(made.submitted, "completed")
    assert 4 <= run.frames <= 7  # of the first connection what was stored in time
    assert (await world.streams.load(made.video_id)).connections == 2


async def test_whom_nobody_publishes_to_fails(world: World) -> None:
    world.publish_wait = 0.05
    async with world.running():
        made = await endpoint(world)
        await world.until(made.submitted, "failed")
    assert "nobody published within 0.05 s; ask for a new endpoint" in str(
        await world.store.read_all(limit=100)
    )


async def test_silence_completes_it(world: World) -> None:
    world.live_silence = 2.5
    world.decoders.connections.append(Connection(pictures=3, broken="broke off"))
    async with world.running():
        made = await endpoint(world)
        async with publishing(world, made):
            await until_connections(world, made, 1, now=False)
            followed_by_now(world, made)
        run = await world.until(made.submitted, "completed")
    assert run.frames == 3
    assert (await world.streams.load(made.video_id)).ended_because == "nobody published for 2.5 s"


async def test_who_sends_no_picture_is_not_looked_at_and_its_end_is_none_of_the_video(world: World) -> None:
    """By mistake, sound only, or gone at once."""
    world.decoders.last = Connection(pictures=5)
    async with world.running():
        made = await endpoint(world)
        async with world.push.publisher(made.video_id) as feed:
            await asyncio.sleep(0.05)
            feed.end()
        await asyncio.sleep(0.05)
        assert world.decoders.probed == [] and (await world.run_of(made.submitted)).active
        async with publishing(world, made):
            assert (await world.until(made.submitted, "completed")).frames == 5


async def test_who_gave_no_picture_is_tried_again_behind_those_who_are_new(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five give none that can be decoded, and take all the places there are for that."""
    looks = 0

    async def probe_source(access: SourceAccess) -> SourceInfo:
        nonlocal looks
        looks += 1
        if looks <= 5:
            raise RetryableFailure("nothing came")
        if looks <= 9:
            await asyncio.Event().wait()
        return LIVE

    monkeypatch.setattr(world.decoders, "probe_source", probe_source)
    world.decoders.last = Connection(pictures=5)
    async with world.running(), AsyncExitStack() as stack, asyncio.timeout(60):
        for _ in range(5):
            await stack.enter_async_context(publishing(world, await endpoint(world)))
        while looks < 9:
            await asyncio.sleep(0.002)
        made = await endpoint(world)
        async with publishing(world, made):
            assert (await world.until(made.submitted, "completed")).frames == 5


async def test_a_publisher_without_pictures_is_no_end(world: World) -> None:
    world.decoders.probe_failures = [RetryableFailure("nothing came")] * 2
    world.decoders.last = Connection(pictures=5)
    async with world.running():
        made = await endpoint(world)
        async with publishing(world, made):
            assert (await world.until(made.submitted, "completed")).frames == 5


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_its_end_sends_the_publisher_away(world: World, way: str) -> None:
    world.decoders.last = Connection(pictures=3, hangs=True)
    async with world.running() as manager:
        made = await endpoint(world)
        async with asyncio.timeout(60), publishing(world, made) as feed:
            await until_connections(world, made, 1, now=True)
            await getattr(world.handlers, way)(made.video_id)
            await feed.dismissed.wait()
            while manager.scheduler.running():
                await asyncio.sleep(0.002)
        assert feed.dismissal and feed.reason == ""
        status = (await world.run_of(made.submitted)).status
    assert status == ("completed" if way == "cancel" else "cancelled")


async def test_it_can_be_cancelled_before_anyone_published(world: World) -> None:
    async with world.running() as manager:
        made = await endpoint(world)
        await world.handlers.cancel(made.video_id)
        await world.until(made.submitted, "cancelled")
        async with asyncio.timeout(60):
            while manager.scheduler.running():
                await asyncio.sleep(0.002)
