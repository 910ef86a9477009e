from __future__ import annotations

import asyncio

import pytest

from monolith.application import put_off
from monolith.application.put_off import PutOff
from monolith.domain.jobs import Job, PurgeJob, PurgeSegmentsJob

FIRST, SECOND = PurgeJob("a"), PurgeSegmentsJob("b")


class Done:
    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def again(self, job: Job) -> None:
        self.jobs.append(job)


async def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success() -> None:
    waiting = PutOff(Done().again)
    pauses = [waiting.put(FIRST) for _ in range(9)]
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert waiting.put(SECOND) == 30
    waiting.done(FIRST)
    assert waiting.put(FIRST) == 30


async def test_what_waits_is_done_after_its_pause_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_off, "FIRST_PAUSE", 0.001)
    done = Done()
    async with asyncio.timeout(60), PutOff(done.again) as waiting:
        waiting.put(FIRST)
        waiting.put(FIRST)
        assert FIRST in waiting and SECOND not in waiting
        while FIRST in waiting or not done.jobs:
            await asyncio.sleep(0.001)
    assert done.jobs == [FIRST]


async def test_a_pause_can_be_cut_short() -> None:
    done = Done()
    async with asyncio.timeout(5), PutOff(done.again) as waiting:
        waiting.put(FIRST)
        waiting.put(SECOND)
        await asyncio.sleep(0)
        waiting.hurry(FIRST.video_id)
        while not done.jobs:
            await asyncio.sleep(0.001)
        assert FIRST not in waiting and SECOND in waiting
    assert done.jobs == [FIRST]


async def test_leaving_forgets_what_waits() -> None:
    done = Done()
    async with PutOff(done.again) as waiting:
        waiting.put(FIRST)
    assert done.jobs == []
    assert len(asyncio.all_tasks()) == 1


async def test_what_fails_ends_who_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_off, "FIRST_PAUSE", 0.001)

    async def broken(job: Job) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(BaseExceptionGroup, match="unhandled errors"):
        async with asyncio.timeout(60), PutOff(broken) as waiting:
            waiting.put(FIRST)
            await asyncio.Event().wait()


async def test_a_cancellation_ends_what_is_under_way_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_off, "FIRST_PAUSE", 0.001)
    begun = asyncio.Event()

    async def for_ever(job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def work() -> None:
        async with PutOff(for_ever) as waiting:
            waiting.put(FIRST)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=60)
    assert done and task.cancelled()


async def test_what_is_forgotten_begins_anew() -> None:
    waiting = PutOff(Done().again)
    assert [waiting.put(job) for job in (FIRST, FIRST, SECOND, SECOND)] == [30, 60, 30, 60]
    waiting.forget("a")
    assert (waiting.put(FIRST), waiting.put(SECOND)) == (30, 120)
