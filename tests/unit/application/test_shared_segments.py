from __future__ import annotations

import asyncio
import time

import pytest

from monolith.application.errors import EnvironmentFailure
from monolith.application.hand_out import SegmentMessage
from monolith.application.segment_claims import LONGEST_HOLD
from monolith.application.segment_log import SegmentLog
from monolith.domain.commands import CancelRuns
from monolith.domain.errors import SupersededError
from monolith.domain.jobs import SegmentJob
from tests.builders import RUN, VIDEO
from tests.unit.application.sharing_world import MESSAGE, OTHER, OneVideo, until_claimed

MODELS = ("objects_detection",)


@pytest.fixture
async def world() -> OneVideo:
    world = OneVideo()
    await world.begin()
    return world


async def test_a_segment_is_done(world: OneVideo) -> None:
    assert await world.copy().do(MESSAGE, redelivered=False) is None
    assert world.done == [MESSAGE.job]


async def test_what_is_done_already_is_not_done_again(world: OneVideo) -> None:
    await world.copy().do(MESSAGE, redelivered=False)
    await world.copy().do(MESSAGE, redelivered=True)
    assert world.done == [MESSAGE.job]


async def test_nothing_is_done_for_a_run_that_is_over(world: OneVideo) -> None:
    await world.streams.execute(VIDEO, CancelRuns(at=5.0, reason="r"))
    await world.copy().do(MESSAGE, redelivered=True)
    await world.copy().do(SegmentMessage("no such video", RUN, 0), redelivered=False)
    assert world.done == []


async def test_a_duplicate_of_what_a_living_copy_does_is_left_to_it(world: OneVideo) -> None:
    await world.live("other")
    log = await world.claim("other")
    assert await world.copy().do(MESSAGE, redelivered=False) is None
    assert world.done == []
    await log.close(MODELS, last_frame=50, end_of_source=False)  # it was not superseded


async def test_what_was_delivered_before_is_taken_over(world: OneVideo) -> None:
    await world.live("other")
    log = await world.claim("other")
    await world.copy().do(MESSAGE, redelivered=True)
    assert world.done == [MESSAGE.job]
    with pytest.raises(SupersededError):
        await log.close(MODELS, last_frame=50, end_of_source=False)


@pytest.mark.parametrize("why", ["it is dead", "its attempt is over", "its claim is old"])
async def test_a_claim_that_holds_nothing_is_passed_over(world: OneVideo, why: str) -> None:
    if why != "it is dead":
        await world.live("other")
    if why == "its claim is old":
        world.now = lambda: time.time() - 2 * LONGEST_HOLD - 1
    await world.claim("other")
    world.now = time.time
    after = 1 if why == "its attempt is over" else 0
    await world.copy().do(SegmentMessage(VIDEO, RUN, 0, after), redelivered=False)
    assert world.done == [MESSAGE.job]


async def test_what_this_copy_does_already_is_waited_for(world: OneVideo) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(job: SegmentJob) -> None:
        begun.set()
        await go_on.wait()
        await world.close(job)

    world.run = slowly
    copy = world.copy()
    first = asyncio.create_task(copy.do(MESSAGE, redelivered=False))
    await begun.wait()
    again = asyncio.create_task(copy.do(MESSAGE, redelivered=True))
    await asyncio.sleep(0.05)
    assert not again.done()
    go_on.set()
    assert await first is None
    assert await again is None
    assert world.done == [MESSAGE.job]


async def test_not_more_than_there_are_places(world: OneVideo) -> None:
    world.run = world.for_ever
    copy = world.copy(places=1)
    tasks = [asyncio.create_task(copy.do(message, redelivered=False)) for message in (MESSAGE, OTHER)]
    await until_claimed(world)
    assert await world.claims().last(OTHER.job) is None
    copy.cancel_idle()
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert done == {tasks[1]}
    assert tasks[1].cancelled()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert copy.running() == []


async def test_a_segment_that_nobody_wants_any_more_ends(world: OneVideo) -> None:
    world.run = world.for_ever
    copy = world.copy()
    task = asyncio.create_task(copy.do(MESSAGE, redelivered=False))
    await until_claimed(world)
    assert copy.running() == [MESSAGE.job]
    copy.cancel(MESSAGE.job)
    await copy.until_ended([MESSAGE.job, OTHER.job])
    assert await task is None


async def test_who_was_superseded_stops(world: OneVideo) -> None:
    async def superseded(job: SegmentJob) -> None:
        log = await world.claim("me", job)
        await world.live("other")
        await world.claim("other", job)
        await log.give_up([1], "too late")

    world.run = superseded
    assert await world.copy().do(MESSAGE, redelivered=False) is None
    claim = await world.claims().last(MESSAGE.job)
    assert claim is not None and claim.owner == "other"


async def test_who_is_stopped_by_a_late_append_of_its_own_goes_on(
    world: OneVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an attempt that was cut off from the event store: nobody else is at it."""
    monkeypatch.setattr("monolith.application.shared_segments._FIRST_PAUSE", 0.0)

    async def late(job: SegmentJob) -> None:
        log = await SegmentLog.open(world.store, world.codec, job)
        await world.claim("me", job)
        world.run = world.close
        await log.claim("me", world.now())

    world.run = late
    assert await world.copy().do(MESSAGE, redelivered=False) is None
    assert world.done == [MESSAGE.job]


async def test_what_the_machine_cannot_do_for_long_is_given_back(world: OneVideo) -> None:
    async def full(job: SegmentJob) -> None:
        await world.claim("me", job)
        raise EnvironmentFailure("the disk is full")

    world.run = full
    left = await world.copy(patience=0.0).do(MESSAGE, redelivered=False)
    assert left == SegmentMessage(VIDEO, RUN, 0, after=1)
    assert await world.copy(patience=0.0).do(left, redelivered=False) == SegmentMessage(
        VIDEO, RUN, 0, after=2
    )
    assert world.given_up == []


async def test_who_waits_for_the_machine_leaves_to_another_what_that_has_taken(world: OneVideo) -> None:
    async def full(job: SegmentJob) -> None:
        await world.claim("me", job)
        await world.live("other")
        await world.claim("other", job)
        raise EnvironmentFailure("the disk is full")

    world.run = full
    assert await world.copy(patience=0.0).do(MESSAGE, redelivered=False) is None
    assert await world.copy(patience=60.0).do(MESSAGE, redelivered=True) is None
    claim = await world.claims().last(MESSAGE.job)
    assert claim is not None
    assert (claim.owner, claim.attempt) == ("other", 4)


async def test_what_takes_too_long_is_given_back_to_be_gone_on_with(world: OneVideo) -> None:
    world.run = world.for_ever
    left = await world.copy(longest_hold=0.2).do(MESSAGE, redelivered=False)
    assert left == SegmentMessage(VIDEO, RUN, 0, after=1)
    world.run = world.close
    await world.copy().do(left, redelivered=False)
    assert world.done == [MESSAGE.job]


async def test_what_fails_too_often_without_a_record_is_given_up(
    world: OneVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(job: SegmentJob) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("monolith.application.shared_segments._FIRST_PAUSE", 0.0)
    world.run = broken
    assert await world.copy().do(MESSAGE, redelivered=False) is None
    assert world.given_up == ["a bug"]


async def test_a_cancelled_copy_has_ended_what_it_did(world: OneVideo) -> None:
    ended: list[SegmentJob] = []

    async def until_cancelled(job: SegmentJob) -> None:
        try:
            await world.for_ever(job)
        finally:
            await asyncio.sleep(0.01)
            ended.append(job)

    world.run = until_cancelled
    task = asyncio.create_task(world.copy().do(MESSAGE, redelivered=False))
    await until_claimed(world)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [MESSAGE.job]


async def test_claims_tell_the_newest_of_many_attempts(world: OneVideo) -> None:
    claims = world.claims()
    assert await claims.last(MESSAGE.job) is None
    assert await claims.held(MESSAGE.job, 0) == (False, 0)
    for number in range(1, 130):
        await world.claim(f"copy {number}")
    await world.live("copy 129")
    assert await claims.held(MESSAGE.job, 128) == (True, 129)
    assert await claims.held(MESSAGE.job, 129) == (False, 129)
    assert await claims.held_elsewhere(MESSAGE.job, 0)
    assert not await world.claims("copy 129").held_elsewhere(MESSAGE.job, 0)
