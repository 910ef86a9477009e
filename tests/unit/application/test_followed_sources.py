"""Sources that are followed, from the submission to the end, as the process manager leads them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.handlers import Submitted
from monolith.application.process_manager import ProcessManager
from monolith.application.scheduler import LaneLoad
from monolith.domain.errors import NotPossibleError
from monolith.domain.jobs import FollowJob
from tests.builders import followed
from tests.unit.application.scripted_sources import Connection
from tests.unit.application.test_process_manager import MODELS, World, until_gone

CAMERA = "rtsp://me:secret@camera.example.org/live"
LIVE = followed(live=True).source
WITH_AN_END = followed(live=False).source
FOR_EVER = Connection(pictures=3, hangs=True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for module in ("scheduler", "following", "ingestion", "segments"):
        monkeypatch.setattr(f"monolith.application.{module}._FIRST_PAUSE", 0.001)
    made = World(tmp_path)
    made.decoders.info = LIVE
    return made


async def camera(world: World, number: int = 0) -> Submitted:
    return await world.handlers.submit_url(url=f"{CAMERA}{number or ''}", models=MODELS)


async def until_followed(manager: ProcessManager, count: int) -> list[FollowJob]:
    async with asyncio.timeout(60):
        while True:
            jobs = [job for job in manager.scheduler.running() if isinstance(job, FollowJob)]
            if len(jobs) == count:
                return jobs
            await asyncio.sleep(0.002)


async def test_a_camera_is_probed_and_followed_with_its_password_which_no_event_holds(world: World) -> None:
    world.decoders.last = Connection(pictures=5)
    async with world.running():
        submitted = await camera(world)
        run = await world.until(submitted, "completed")
        await until_gone(world.folder / "secrets" / submitted.video_id)
    assert run.frames == 5
    assert submitted.video_url == "rtsp://***@camera.example.org/live"
    assert {access.url for access in world.decoders.probed} == {CAMERA}
    (request,) = world.decoders.requests
    assert (request.access.url, request.access.transport, request.live) == (CAMERA, "rtsp", True)
    assert world.fetcher.looked_at == []
    assert all(b"secret" not in event.data for event in await world.store.read_all())
    assert not any((world.folder / "secrets").iterdir())


async def test_a_playlist_with_an_end_is_followed_to_it(world: World) -> None:
    world.fetcher.transport = "hls"
    world.decoders.info = WITH_AN_END
    async with world.running():
        submitted = await world.handlers.submit_url(url="http://example.org/list.m3u8", models=MODELS)
        run = await world.until(submitted, "completed")
    assert (run.frames, sorted(run.completed)) == (40, [0, 1, 2, 3])
    assert world.fetcher.fetched == []
    assert world.decoders.requests[0].access.transport == "hls"


async def test_a_camera_that_is_starting_is_waited_for(world: World) -> None:
    world.decoders.probe_failures = [RetryableFailure("connection refused")] * 8
    world.decoders.last = Connection(pictures=2)
    async with world.running():
        await world.until(await camera(world), "completed")
    assert len(world.decoders.probed) == 9


async def test_a_camera_that_never_answers_fails_with_its_last_error(world: World) -> None:
    world.live_silence = 0.05
    world.decoders.probe_failures = [RetryableFailure("connection refused")] * 1000
    async with world.running():
        submitted = await camera(world)
        await world.until(submitted, "failed")
    stream = await world.store.read_stream(f"video-{submitted.video_id}")
    assert b"the source gave no picture within 0.05 s: connection refused" in stream[-1].data


async def test_a_first_try_is_short_and_later_ones_are_patient(world: World) -> None:
    world.decoders.probe_failures = [RetryableFailure("no picture came for 25 s")]
    world.decoders.last = Connection(pictures=2)
    async with world.running():
        await world.until(await camera(world), "completed")
    first, second = world.decoders.probed
    assert (first.connect_timeout, first.read_timeout) == (5.0, 5.0)
    assert (second.connect_timeout, second.read_timeout) == (10.0, 30.0)


async def test_a_new_camera_does_not_wait_for_those_that_are_silent(world: World) -> None:
    world.decoders.last = Connection(pictures=2)
    world.decoders.silent = {f"{CAMERA}{number}" for number in range(1, 10)}
    async with world.running():
        for number in range(1, 10):
            await camera(world, number)
        async with asyncio.timeout(60):
            while len(world.decoders.probed) < 9 + 4:  # later tries have four places
                await asyncio.sleep(0.002)
        assert (await world.until(await camera(world), "completed")).frames == 2


async def test_waiting_for_a_place_is_not_a_sources_silence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clocks = SimpleNamespace(monotonic=lambda: now, perf_counter=time.perf_counter)
    monkeypatch.setattr("monolith.application.ingestion.time", clocks)
    world.decoders.last = Connection(pictures=2)
    world.decoders.probing = asyncio.Event()
    async with world.running():
        submitted = [await camera(world, number) for number in range(1, 6)]
        async with asyncio.timeout(60):
            while len(world.decoders.probed) < 4:  # as many as there are places
                await asyncio.sleep(0.002)
        asked = {access.url for access in world.decoders.probed}
        (waiting,) = (place for place in range(5) if f"{CAMERA}{place + 1}" not in asked)
        now += 1.5 * world.live_silence
        world.decoders.probe_failures = [SourceFailure("it holds no video")] * 4 + [RetryableFailure("slow")]
        world.decoders.probing.set()
        assert (await world.until(submitted[waiting], "completed")).frames == 2
    assert len(world.decoders.probed) == 6


async def test_a_live_playlist_does_not_wait_for_downloads(world: World) -> None:
    downloads = [f"http://example.org/{number}.mp4" for number in range(6)]
    world.fetcher.slow = set(downloads)
    world.fetcher.transports = {"http://example.org/live.m3u8": "hls"}
    world.decoders.last = Connection(pictures=3)
    async with world.running() as manager:
        for url in downloads:
            await world.handlers.submit_url(url=url, models=MODELS)
        async with asyncio.timeout(60):
            while len(world.fetcher.fetched) < 4:  # as many as there are places
                await asyncio.sleep(0.002)
        live = await world.handlers.submit_url(url="http://example.org/live.m3u8", models=MODELS)
        assert (await world.until(live, "completed")).frames == 3
        assert len(world.fetcher.fetched) == 4
        assert manager.scheduler.lanes()["probe"] == LaneLoad(running=4, waiting=2, places=4)
    assert sorted(world.fetcher.looked_at) == sorted([*downloads, "http://example.org/live.m3u8"])


async def test_what_cannot_be_watched_fails_at_once(world: World) -> None:
    world.decoders.probe_failures = [SourceFailure("it holds no video")]
    async with world.running():
        await world.until(await camera(world), "failed")
    assert len(world.decoders.probed) == 1


async def test_live_sources_wait_for_a_place_and_files_do_not(world: World) -> None:
    world.live_sources = 2
    world.decoders.last = FOR_EVER
    async with world.running() as manager:
        for number in range(3):
            await camera(world, number)
        await until_followed(manager, 2)
        await world.until(await world.upload(), "completed")
        world.fetcher.transport, world.decoders.info = "hls", WITH_AN_END
        world.decoders.connections = deque()
        listed = await world.handlers.submit_url(url="http://example.org/list.m3u8", models=MODELS)
        await world.until(listed, "completed")
        assert len(await until_followed(manager, 2)) == 2
        assert manager.scheduler.waiting() == 1


async def test_a_camera_is_ended_in_order_while_others_wait_for_its_place(world: World) -> None:
    world.live_sources = 1
    world.decoders.last = FOR_EVER
    async with world.running() as manager:
        first = await camera(world, 1)
        await until_followed(manager, 1)
        await until_frames(world, 3)
        second = await camera(world, 2)
        await world.handlers.cancel(first.video_id)
        assert (await world.until(first, "completed")).frames == 3
        async with asyncio.timeout(60):  # the first one's job may be on its way out still
            while [job.video_id for job in await until_followed(manager, 1)] != [second.video_id]:
                await asyncio.sleep(0.01)
        with pytest.raises(NotPossibleError):
            await world.handlers.cancel(first.video_id)


async def test_a_camera_that_is_deleted_is_gone(world: World) -> None:
    world.decoders.last = FOR_EVER
    async with world.running() as manager:
        submitted = await camera(world)
        await until_followed(manager, 1)
        await until_frames(world, 3)
        await world.handlers.delete(submitted.video_id)
        async with asyncio.timeout(60):
            while not (await world.streams.load(submitted.video_id)).purged:
                await asyncio.sleep(0.005)
        await until_followed(manager, 0)
    assert world.decoders.following == 0
    assert await world.store.read_all(prefixes=["frames-", "results-"]) == []


async def test_a_camera_is_followed_on_after_a_restart(world: World) -> None:
    world.decoders.connections = deque([FOR_EVER])
    world.decoders.last = Connection(pictures=2)
    async with world.running():
        submitted = await camera(world)
        await until_frames(world, 3)
    assert world.decoders.following == 0
    async with world.running():
        run = await world.until(submitted, "completed")
    assert (run.frames, run.greatest_frame) == (5, 5)


async def until_frames(world: World, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            events = await world.store.read_all(prefixes=["results-"])
            if sum(event.event_type == "FramesAnalysed" for event in events) >= count:
                return
            await asyncio.sleep(0.002)
