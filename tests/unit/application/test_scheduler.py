from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from eventsourcing.errors import StoreUnavailableError
from monolith.application.errors import EnvironmentFailure, RetryableFailure
from monolith.application.log_context import in_words
from monolith.application.scheduler import Scheduler
from monolith.domain.jobs import FollowJob, Job, ProbeJob, PurgeJob, PurgeSegmentsJob, SegmentJob


class Work:
    """Jobs that wait until they are let go, and a record of them."""

    def __init__(self) -> None:
        self.started: list[Job] = []
        self.most_at_once = 0
        self.given_up: list[tuple[Job, str]] = []
        self.gates: dict[Job, asyncio.Event] = {}
        self._now = 0

    async def run(self, job: Job) -> None:
        self.started.append(job)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await self.gates.setdefault(job, asyncio.Event()).wait()
        finally:
            self._now -= 1

    async def give_up(self, job: Job, error: Exception) -> None:
        self.given_up.append((job, str(error)))

    def finish(self, job: Job) -> None:
        self.gates[job].set()


def segments(video_id: str, count: int) -> list[Job]:
    return [SegmentJob(video_id, f"run-{video_id}", n) for n in range(count)]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lane_runs_no_more_than_its_places() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 2}) as scheduler:
        scheduler.offer("a", segments("a", 5))
        await settle()
        assert work.started == segments("a", 2)
        assert scheduler.waiting() == 3
        work.finish(work.started[0])
        await settle()
        assert work.started == segments("a", 3)
    assert work.most_at_once == 2


async def test_videos_take_turns() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 3))
        scheduler.offer("b", segments("b", 3))
        scheduler.offer("c", segments("c", 3))
        for turn in range(6):
            await settle()
            work.finish(work.started[turn])
    assert [job.video_id for job in work.started[:6]] == list("abcabc")


async def test_a_video_that_needs_nothing_more_is_forgotten() -> None:
    """It counts as new when it comes again."""
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1}) as scheduler:
        for video_id in "abc":
            scheduler.offer(video_id, segments(video_id, 1))
        for _ in range(2):
            await settle()
            work.finish(work.started[-1])
        await settle()
        scheduler.offer("b", [])
        for video_id in "ab":
            scheduler.offer(video_id, segments(video_id, 2)[1:])
        work.finish(work.started[-1])
        await settle()
        assert [job.video_id for job in work.started] == ["a", "b", "c", "b"]


async def test_a_slow_lane_does_not_hold_up_another() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1, ProbeJob: 1}) as scheduler:
        scheduler.offer("a", [ProbeJob("a")])
        scheduler.offer("b", [ProbeJob("b")])
        scheduler.offer("c", segments("c", 1))
        await settle()
        assert work.started == [ProbeJob("a"), *segments("c", 1)]


async def test_a_job_offered_while_it_runs_is_not_started_beside_itself_but_once_more_afterwards() -> None:
    work = Work()
    (job,) = segments("a", 1)
    async with Scheduler(work.run, work.give_up, {SegmentJob: 3}) as scheduler:
        scheduler.offer("a", [job])
        await settle()
        scheduler.offer("a", [job])
        await settle()
        assert work.started == [job]
        work.finish(job)
        await settle()
        assert work.started == [job, job]


async def test_what_is_no_longer_offered_does_not_start() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 2))
        await settle()
        scheduler.offer("a", [])
        work.finish(work.started[0])
        await settle()
        assert work.started == segments("a", 1)


async def test_a_cancelled_job_gives_its_place_back() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 1))
        scheduler.offer("b", segments("b", 1))
        await settle()
        scheduler.cancel(segments("a", 1)[0])
        await settle()
        assert work.started == [*segments("a", 1), *segments("b", 1)]


async def test_a_job_cancelled_before_its_first_step_gives_its_place_back() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 1))
        scheduler.cancel(segments("a", 1)[0])
        scheduler.offer("b", segments("b", 1))
        await settle()
        assert work.started == segments("b", 1)


async def test_waiting_until_a_job_is_the_only_one_of_its_video() -> None:
    work = Work()
    async with Scheduler(work.run, work.give_up, {SegmentJob: 2, ProbeJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 2))
        scheduler.offer("b", [ProbeJob("b")])
        await settle()
        alone = asyncio.create_task(scheduler.until_alone(PurgeJob("a")))
        await settle()
        work.finish(segments("a", 2)[0])
        await settle()
        assert not alone.done()
        work.finish(segments("a", 2)[1])
        await asyncio.wait_for(alone, 60)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.application.scheduler._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("monolith.application.scheduler._LONGEST_PAUSE", 0.002)


def failing(times: int, error: Exception) -> tuple[Counter[Job], Callable[[Job], Awaitable[None]]]:
    tries: Counter[Job] = Counter()

    async def run(job: Job) -> None:
        tries[job] += 1
        if tries[job] <= times:
            raise error

    return tries, run


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [RetryableFailure("network"), ZeroDivisionError("bug")])
async def test_a_failing_job_is_tried_again(error: Exception) -> None:
    tries, run = failing(2, error)
    work = Work()
    async with Scheduler(run, work.give_up, {SegmentJob: 1}) as scheduler:
        scheduler.offer("a", segments("a", 1))
        while scheduler.running():
            await asyncio.sleep(0.001)
    assert tries[segments("a", 1)[0]] == 3
    assert work.given_up == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [EnvironmentFailure("disk full"), StoreUnavailableError("disk full")])
async def test_a_job_that_the_machine_cannot_take_waits_for_as_long_as_it_takes(error: Exception) -> None:
    tries, run = failing(12, error)
    work = Work()
    async with Scheduler(run, work.give_up, {SegmentJob: 1}, attempts=2) as scheduler:
        scheduler.offer("a", segments("a", 1))
        while scheduler.running():
            await asyncio.sleep(0.001)
    assert tries[segments("a", 1)[0]] == 13
    assert work.given_up == []


@pytest.mark.usefixtures("quick")
async def test_a_job_that_always_fails_is_given_up_and_others_go_on() -> None:
    tries, run = failing(100, RetryableFailure("no route"))
    work = Work()
    async with Scheduler(run, work.give_up, {SegmentJob: 1}, attempts=3) as scheduler:
        scheduler.offer("a", segments("a", 1))
        scheduler.offer("b", segments("b", 1))
        while scheduler.running():
            await asyncio.sleep(0.001)
    assert list(tries.values()) == [3, 3]
    assert work.given_up == [(segments("a", 1)[0], "no route"), (segments("b", 1)[0], "no route")]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (ProbeJob("7"), "probing video 7"),
        (SegmentJob("7", "5", 2), "analysing segment 2 of video 7 in run 5"),
        (FollowJob("7", live=True), "following the source of video 7"),
        (FollowJob("7", finish=True), "ending the source of video 7"),
        (PurgeSegmentsJob("7"), "removing expired segments of video 7"),
        (PurgeJob("7"), "removing video 7"),
    ],
)
async def test_the_log_says_what_failed(job: Job, words: str, caplog: pytest.LogCaptureFixture) -> None:
    given_up = asyncio.Event()

    async def fail(_: Job) -> None:
        raise RetryableFailure("no luck")

    async def give_up(_: Job, error: Exception) -> None:
        given_up.set()
        raise RuntimeError("the store is read-only")

    async with Scheduler(fail, give_up, {type(job): 1}, attempts=1) as scheduler:
        scheduler.offer("7", [job])
        await given_up.wait()
        await settle()
    assert in_words(job) == words
    assert caplog.messages == [
        f"{words} failed, try 1 of 1: no luck",
        f"{words} could not even be given up; it is tried again after a restart",
    ]
