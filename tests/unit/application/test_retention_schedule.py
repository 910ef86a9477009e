"""Given the hour and what ran before, when the program runs, then when the next retention comes."""

from __future__ import annotations

import asyncio
import logging
import time as clocks
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path

import pytest

from monolith.application.leadership import Leadership
from monolith.application.retention_report import DAY_SECONDS, RetentionReport, RetentionRequest
from monolith.application.retention_schedule import RetentionPlan, RetentionSchedule, following
from monolith.storage import RetentionFile
from tests.histories import RunStory, SegmentStory, VideoStory, events_of
from tests.unit.application.retention_world import Life, World
from tests.unit.application.sharing_world import Leading

AT = time(3, 30)
TOLD = VideoStory(
    number=1,
    live=False,
    frames=4,
    step=1,
    runs=(
        RunStory(("objects_detection",), "completed", (SegmentStory(0, "completed", frozenset(), False),)),
    ),
)


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    clocks.tzset()
    yield request.param
    monkeypatch.undo()
    clocks.tzset()


def local(text: str) -> float:
    return datetime.fromisoformat(text).astimezone().timestamp()


def test_the_next_time_is_that_of_this_place(zone: str) -> None:
    assert following(local("2026-07-01T03:29:59"), AT) == local("2026-07-01T03:30:00")
    assert following(local("2026-07-01T03:30:00"), AT) == local("2026-07-02T03:30:00")
    assert following(local("2026-12-31T23:00:00"), AT) == local("2027-01-01T03:30:00")


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
def test_days_of_23_and_25_hours(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are set on the day after."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clocks.tzset()
    try:
        hours = (following(local(f"{day}T03:30:00"), AT) - local(f"{day}T03:30:00")) / 3600
    finally:
        monkeypatch.undo()
        clocks.tzset()
    assert hours == (23 if day == "2026-03-28" else 25)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path / "world")
    await made.happen([(0.0, step) for step in events_of(TOLD)])
    return made


def scheduled(
    life: Life, world: World, *, keep: tuple[str, ...] = (), leadership: Leadership | None = None
) -> RetentionSchedule:
    async def sleep(seconds: float) -> None:
        world.store.now += seconds
        await asyncio.sleep(0)

    plan = RetentionPlan(request=RetentionRequest(days=1, keep=frozenset(keep)), at=AT)
    return RetentionSchedule(
        life.retention, plan, lambda: world.store.now, leadership=leadership, sleep=sleep
    )


async def until_days_later(world: World, days: float) -> None:
    end = world.store.now + days * DAY_SECONDS
    async with asyncio.timeout(60):
        while world.store.now < end:
            await asyncio.sleep(0.001)


async def test_it_runs_every_day(world: World) -> None:
    async with world.living() as life:
        async with scheduled(life, world) as schedule:
            first = schedule.next_at
            await until_days_later(world, 3)
            assert schedule.next_at >= first + 2 * DAY_SECONDS
        await life.retention.wait(60)
        assert life.retention.report is not None
        assert life.retention.report.trigger == "schedule"
        assert list((await life.streams.load(TOLD.video_id)).expired) == [0]


async def test_of_several_copies_the_leader_runs_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.application.retention_schedule._TAKEOVER_SECONDS", 0.01)
    leading = Leading(leads=False)
    async with world.living() as life, scheduled(life, world, leadership=leading):
        await until_days_later(world, 3)
        assert life.retention.report is None
        await leading.set(leads=True)
        await until_days_later(world, 3)
        await life.retention.wait(10)
        assert life.retention.report is not None


async def test_who_leads_a_moment_after_the_time_runs_it(world: World) -> None:
    """The leader died, or this copy has just started."""
    leading = Leading(leads=False)
    async with world.living() as life, scheduled(life, world, leadership=leading) as schedule:
        due = schedule.next_at
        async with asyncio.timeout(10):
            while world.store.now < due:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert (life.retention.report, schedule.next_at) == (None, due)
        await leading.set(leads=True)
        await until_days_later(world, 0.5)
        await life.retention.wait(10)
        report = life.retention.report
        assert report is not None and report.started_at < due + DAY_SECONDS / 2


async def test_one_that_was_missed_comes_at_the_start(world: World) -> None:
    report = RetentionReport(
        state="done", trigger="schedule", dry_run=False, days=1, older_than=1.0, started_at=world.store.now
    )
    await RetentionFile(world.folder).save(report)
    async with world.living() as life:
        assert scheduled(life, world).next_at > world.store.now
        world.days_later(2)
        assert scheduled(life, world).next_at == world.store.now


async def test_one_that_somebody_asked_for_is_no_reason_to_catch_up(world: World) -> None:
    report = RetentionReport(state="done", dry_run=False, days=1, older_than=1.0, started_at=world.store.now)
    await RetentionFile(world.folder).save(report)
    async with world.living() as life:
        world.days_later(2)
        assert scheduled(life, world).next_at > world.store.now


async def test_it_outlives_the_videos_that_it_keeps_and_failures(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "0199aaaa-0000-7000-8000-00000000000f"
    with caplog.at_level(logging.WARNING):
        async with world.living() as life:
            start, starts = life.retention.start, 0

            async def failing(*arguments: object) -> RetentionReport:
                nonlocal starts
                starts += 1
                if starts == 1:
                    raise OSError(28, "No space left on device")
                return await start(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(life.retention, "start", failing)
            async with scheduled(life, world, keep=(gone,)):
                async with asyncio.timeout(60):
                    while starts < 3:
                        await asyncio.sleep(0.001)
            assert list((await life.streams.load(TOLD.video_id)).expired) == [0]
    messages = [record.getMessage() for record in caplog.records]
    assert "the scheduled retention did not run" in messages
    assert f"retention: there is no video {gone} to keep" in messages
