"""The process manager of one of several copies."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from eventsourcing.leases import Leases
from monolith.application.handlers import Submitted
from monolith.application.placement import SharedPlacement
from monolith.domain.video import Video
from tests.unit.application.sharing_world import Leading
from tests.unit.application.test_process_manager import MODELS, World, until_gone

LONG_AGO = 7_200.0


class SharedWorld(World):
    """`leading`: whether this copy leads, as a test wants it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.leading = Leading(leads=False)
        self.leadership = self.leading
        self.placement = SharedPlacement(
            Leases(self.store, clock=time.time), "me", self.leading, self.push.has_publisher, hands_out=False
        )

    async def uploads(self, count: int) -> list[Submitted]:
        return [await self._upload(f"upload-{number}") for number in range(count)]

    async def _upload(self, name: str) -> Submitted:
        path = self.storage.uploads / name
        path.write_bytes(b"video")
        return await self.handlers.submit_upload(path=path, file_name="clip.mp4", models=MODELS)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedWorld:
    monkeypatch.setattr("monolith.application.scheduler._FIRST_PAUSE", 0.001)
    return SharedWorld(tmp_path)


def age(path: Path) -> None:
    """It was written long ago."""
    then = time.time() - LONG_AGO
    os.utime(path, (then, then))


async def test_who_leads_not_does_nothing_until_it_leads(world: SharedWorld) -> None:
    [submitted] = await world.uploads(1)
    async with world.running() as manager:
        assert manager.scheduler.running() == []
        await world.leading.set(leads=True)
        await world.until(submitted, "completed")


async def test_leading_that_comes_and_goes_leaves_no_video_behind(
    world: SharedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one video after the other is looked at."""
    submitted = await world.uploads(3)
    turns = {submitted[1].video_id: False, submitted[2].video_id: True}
    load = world.streams.load

    async def loaded(video_id: str) -> Video:
        video = await load(video_id)
        if world.leading.leads != turns.get(video_id, world.leading.leads):
            await world.leading.set(leads=turns.pop(video_id))
        return video

    async with world.running():
        monkeypatch.setattr(world.streams, "load", loaded)
        await world.leading.set(leads=True)
        for one in submitted:
            await world.until(one, "completed")
    assert turns == {}


async def test_the_leader_removes_sources_that_nobody_needs_any_more(
    world: SharedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a video that ended while nobody led, and of an upload that was cut off; not what may be arriving."""
    monkeypatch.setattr("monolith.application.sweeping._PAUSE", 0.01)
    left, arriving = world.storage.uploads / "left", world.storage.uploads / "arriving"
    secret, new = world.folder / "secrets" / "ended", world.folder / "secrets" / "new"
    secret.parent.mkdir()
    for path in (left, arriving, secret, new):
        path.write_bytes(b"x")
    age(left)
    age(secret)
    endpoint = await world.push.create("rtmp", models=MODELS)
    age(world.folder / "secrets" / endpoint.video_id)
    async with world.running():
        await asyncio.sleep(0.05)
        assert left.exists(), "this copy does not lead"
        await world.leading.set(leads=True)
        await until_gone(left)
        await until_gone(secret)
        age(arriving)
        await until_gone(arriving)
    assert new.exists()
    assert (world.folder / "secrets" / endpoint.video_id).exists()


async def test_what_another_copy_stores_until_it_knows_of_the_end_is_removed_too(
    world: SharedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    [submitted] = await world.uploads(1)
    pack = world.storage.pack_path(submitted.video_id, "000000-other-001.mjpeg")
    tombstone = world.store.tombstone_stream

    async def tombstoned(stream_name: str) -> None:
        await world.storage.prepare_video(submitted.video_id)
        pack.write_bytes(b"frames")
        await tombstone(stream_name)

    monkeypatch.setattr(world.store, "tombstone_stream", tombstoned)
    await world.leading.set(leads=True)
    async with world.running():
        await world.until(submitted, "completed")
        await world.handlers.delete(submitted.video_id)
        async with asyncio.timeout(10):
            while not (await world.streams.load(submitted.video_id)).purged:
                await asyncio.sleep(0.01)
    assert not pack.parent.parent.exists()
