from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.application.errors import SourceFailure
from monolith.application.judging import MAX_LENT
from monolith.application.pipeline import SegmentPipeline
from monolith.domain.commands import CancelRuns
from monolith.domain.errors import SupersededError
from monolith.domain.events import (
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    RunCompleted,
    RunFailed,
    SegmentClaimed,
    SegmentClosed,
)
from monolith.domain.jobs import SegmentJob
from tests.builders import RUN, VIDEO, probe, source, submit
from tests.unit.application.scripted import (
    Crash,
    ScriptedDecoders,
)
from tests.unit.application.segment_world import MODELS, SegmentWorld, frames_of, once


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.application.segments._FIRST_PAUSE", 0.001)


class World(SegmentWorld):
    """One video of `frames` pictures in one segment."""

    def __init__(
        self, folder: Path, *, frames: int, frame_step: int = 1, indexed: bool = True, slots: int = 4
    ) -> None:
        self.decoders = ScriptedDecoders(frames)
        super().__init__(folder, self.decoders, frame_step=frame_step, slots=slots)
        self.path = folder / "clip.mp4"
        self.source = source(frames=frames if indexed else None, segments=1)

    async def submit(self) -> None:
        await self.streams.execute(VIDEO, submit(self.frame_step, MODELS))
        self.path.write_bytes(b"video")
        await self.streams.execute(VIDEO, probe(self.source, str(self.path)))

    async def work(self) -> None:
        """One process's life: it may crash at the store's word."""
        pipeline = SegmentPipeline(self.segments())
        async with asyncio.timeout(60):
            await pipeline.run(SegmentJob(VIDEO, RUN, 0))


async def test_a_segment_is_stored_judged_and_closed(tmp_path: Path) -> None:
    world = World(tmp_path, frames=70, frame_step=3)
    await world.submit()
    await world.work()
    assert frames_of(await world.events()) == once(range(3, 71, 3))
    (closed,) = await world.of(SegmentClosed)
    assert isinstance(closed, SegmentClosed)
    assert (closed.frames, closed.dropped, closed.last_frame) == (23, 0, 70)
    assert len(await world.of(RunCompleted)) == 1
    assert world.slots.all_back


async def test_results_come_after_the_frames_that_they_are_about(tmp_path: Path) -> None:
    world = World(tmp_path, frames=100)
    await world.submit()
    await world.work()
    stored: set[int] = set()
    for event in await world.events():
        if isinstance(event, FramesStored):
            stored |= {frame.frame_number for frame in event.frames}
        if isinstance(event, FramesAnalysed):
            assert {frame.frame_number for frame in event.frames} <= stored
            assert len(event.frames) <= 32


@settings(max_examples=40, deadline=None)
@given(
    crashes=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=5),
    frames=st.integers(1, 90),
    frame_step=st.integers(1, 4),
    indexed=st.booleans(),
)
def test_a_crash_at_any_append_loses_nothing_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    crashes: list[tuple[int, bool]],
    frames: int,
    frame_step: int,
    indexed: bool,
) -> None:
    async def run() -> None:
        world = World(
            tmp_path_factory.mktemp("world"),
            frames=frames,
            frame_step=min(frame_step, frames),
            indexed=indexed,
        )
        await world.submit()
        for appends, after in crashes:
            world.store.appends_left, world.store.after = appends, after
            with contextlib.suppress(Crash, BaseExceptionGroup):
                await world.work()
        world.store.appends_left = 10**9
        await world.work()
        events = await world.events()
        assert frames_of(events) == once(range(world.frame_step, frames + 1, world.frame_step))
        assert len([event for event in events if isinstance(event, SegmentClosed)]) == 1
        assert len([event for event in events if isinstance(event, RunCompleted)]) == 1
        attempts = [event.attempt for event in events if isinstance(event, SegmentClaimed)]
        assert sorted(set(attempts)) == list(range(1, max(attempts) + 1))
        assert world.slots.all_back

    asyncio.run(run())


async def test_a_decoder_that_dies_costs_an_attempt_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, frames=50)
    await world.submit()
    world.decoders.dies_at = 20
    await world.work()
    assert world.slots.all_back
    assert await world.of(RunCompleted) == []
    await world.work()
    assert frames_of(await world.events()) == once(range(1, 51))


async def test_a_decoder_that_dies_again_and_again_is_survived_while_it_gets_on(tmp_path: Path) -> None:
    world = World(tmp_path, frames=60)
    await world.submit()
    for dies_at in (8, 16, 24, 32, 40, 48):
        world.decoders.dies_at = dies_at
        await world.work()
    assert (await world.streams.load(VIDEO)).runs[RUN].status == "active"
    await world.work()
    assert frames_of(await world.events()) == once(range(1, 61))


async def test_a_decoder_that_gets_nowhere_fails_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, frames=60)
    await world.submit()
    for _ in range(4):
        world.decoders.dies_at = 1
        await world.work()
    assert (await world.streams.load(VIDEO)).runs[RUN].status == "failed"


async def test_a_decoder_never_holds_more_slots_than_its_share(tmp_path: Path) -> None:
    world = World(tmp_path, frames=60, slots=40)
    await world.submit()
    await world.work()
    assert world.decoders.most_lent <= MAX_LENT
    assert frames_of(await world.events()) == once(range(1, 61))


async def test_a_bad_source_fails_the_run_for_good(tmp_path: Path) -> None:
    world = World(tmp_path, frames=50)
    await world.submit()
    world.decoders.dies_at = 20
    world.decoders.error = SourceFailure("the file is gone")
    await world.work()
    video = await world.streams.load(VIDEO)
    assert video.runs[RUN].status == "failed"


async def test_a_source_that_is_gone_fails_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, frames=5)
    await world.submit()
    world.path.unlink()
    await world.work()
    assert (await world.streams.load(VIDEO)).runs[RUN].status == "failed"


async def test_a_source_that_was_changed_since_its_scan_fails_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, frames=5)
    world.path.write_bytes(b"video")
    status = world.path.stat()
    await world.streams.execute(VIDEO, submit(1, MODELS))
    command = msgspec.structs.replace(
        probe(world.source, str(world.path)), size_bytes=status.st_size, modified_ns=status.st_mtime_ns
    )
    await world.streams.execute(VIDEO, command)
    world.path.write_bytes(b"other")
    os.utime(world.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    await world.work()
    (failed,) = await world.of(RunFailed)
    assert isinstance(failed, RunFailed)
    assert failed.error == "the file was changed while it was being analysed; submit it again"


async def test_a_frame_that_a_model_cannot_judge_is_dropped_for_that_model(tmp_path: Path) -> None:
    world = World(tmp_path, frames=10)
    world.inference.refuses = {"color_detection"}
    await world.submit()
    await world.work()
    dropped = await world.of(FramesDropped)
    assert {event.model for event in dropped if isinstance(event, FramesDropped)} == {"color_detection"}
    (closed,) = await world.of(SegmentClosed)
    assert isinstance(closed, SegmentClosed)
    assert (closed.frames, closed.dropped) == (0, 10)


async def test_damaged_pictures_are_dropped_and_numbers_do_not_shift(tmp_path: Path) -> None:
    world = World(tmp_path, frames=30)
    world.decoders.damaged = {7, 8}
    await world.submit()
    await world.work()
    (dropped,) = await world.of(FramesDropped)
    assert isinstance(dropped, FramesDropped)
    assert (dropped.frame_numbers, dropped.model, dropped.reason) == (
        (7, 8), None, "the picture could not be decoded",
    )  # fmt: skip
    (completed,) = await world.of(RunCompleted)
    assert isinstance(completed, RunCompleted)
    assert completed.coverage == pytest.approx(28 / 30)


async def test_a_cancelled_run_is_not_worked_on(tmp_path: Path) -> None:
    world = World(tmp_path, frames=10)
    await world.submit()
    await world.streams.execute(VIDEO, CancelRuns(at=3.0, reason="cancelled"))
    await world.work()
    assert await world.of(SegmentClaimed) == []


async def test_what_is_closed_is_only_reported(tmp_path: Path) -> None:
    world = World(tmp_path, frames=10)
    await world.submit()
    await world.work()
    judged = world.inference.judged
    await world.work()
    assert world.inference.judged == judged
    assert len(await world.of(SegmentClaimed)) == 2  # one in each of the segment's streams


async def test_an_attempt_that_another_one_has_overtaken_stops(tmp_path: Path) -> None:
    world = World(tmp_path, frames=40)
    await world.submit()
    first = asyncio.create_task(world.work())
    while not await world.of(SegmentClaimed):
        await asyncio.sleep(0)
    await world.work()  # claims attempt 2 while attempt 1 is at work
    with pytest.raises(SupersededError):
        await first
    assert frames_of(await world.events()) == once(range(1, 41))
    assert len(await world.of(SegmentClosed)) == 1
