from __future__ import annotations

import asyncio

import pytest

from monolith.application.placement import ElsewhereError, SharedPlacement, SolePlacement
from monolith.domain.jobs import FollowJob, Job, LookJob, ProbeJob, PurgeJob, PurgeSegmentsJob, SegmentJob
from tests.unit.application.sharing_world import Leading, Shared

FOLLOW = FollowJob("v", live=True)
PUSHED = FollowJob("v", live=True, pushed=True)
WAITING = ProbeJob("v", pushed=True)
SEGMENT = SegmentJob("v", "r", 0)
OF_THE_LEADER: list[Job] = [LookJob("v"), ProbeJob("v"), PurgeJob("v"), PurgeSegmentsJob("v")]


class World(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.leading = Leading(leads=True)
        self.published: set[str] = set()

    def placement(self, *, hands_out: bool = False, owner: str = "me", ttl: float = 15.0) -> SharedPlacement:
        return SharedPlacement(
            self.leases, owner, self.leading, self.published.__contains__, hands_out=hands_out, ttl=ttl
        )


@pytest.fixture
def world() -> World:
    return World()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_who_is_alone_does_everything() -> None:
    alone = SolePlacement()
    jobs: list[Job] = [*OF_THE_LEADER, FOLLOW, PUSHED, WAITING, SEGMENT]
    for job in jobs:
        assert alone.wants(job)
        async with alone.hold(job):
            pass


@pytest.mark.parametrize("job", OF_THE_LEADER, ids=lambda job: type(job).__name__)
async def test_what_is_the_leaders(world: World, job: Job) -> None:
    placement = world.placement()
    assert placement.wants(job)
    async with placement.hold(job):
        pass
    world.leading.leads = False
    assert not placement.wants(job)
    with pytest.raises(ElsewhereError):
        async with placement.hold(job):
            pass


async def test_segments_are_the_leaders_unless_all_copies_take_them_from_a_queue(world: World) -> None:
    assert world.placement().wants(SEGMENT)
    assert not world.placement(hands_out=True).wants(SEGMENT)
    world.leading.leads = False
    assert not world.placement().wants(SEGMENT)


async def test_what_a_leader_does_ends_when_it_leads_no_more(world: World) -> None:
    async def work() -> None:
        async with world.placement().hold(SEGMENT):
            await for_ever()

    working = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    await world.leading.set(leads=False)
    async with asyncio.timeout(10):
        with pytest.raises(ElsewhereError):
            await working
    assert working.cancelling() == 0


async def test_a_cancellation_stays_one(world: World) -> None:
    async def work() -> None:
        async with world.placement().hold(SEGMENT):
            await for_ever()

    working = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_what_turns_its_end_into_another_error_leaves_no_cancellation_behind(world: World) -> None:
    async def work() -> int:
        me = asyncio.current_task()
        assert me is not None
        with pytest.raises(ValueError, match="in the midst"):
            async with world.placement().hold(SEGMENT):
                try:
                    await for_ever()
                except asyncio.CancelledError:
                    raise ValueError("in the midst") from None
        await asyncio.sleep(0)
        return me.cancelling()

    working = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    await world.leading.set(leads=False)
    assert await working == 0


@pytest.mark.parametrize("job", [FOLLOW, WAITING], ids=["pulled", "pushed"])
async def test_a_source_is_followed_by_one_copy(world: World, job: Job) -> None:
    world.leading.leads = False  # no matter who leads
    mine, others = world.placement(), world.placement(owner="other")
    assert mine.wants(job)
    assert others.wants(job)
    async with mine.hold(job):
        assert await world.leases.holder("follow-v") == "me"
        with pytest.raises(ElsewhereError):
            async with others.hold(job):
                pass
    async with others.hold(job):
        assert await world.leases.holder("follow-v") == "other"


async def test_who_loses_the_lease_follows_no_more(world: World) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(ElsewhereError):
            async with world.placement(ttl=0.3).hold(FOLLOW):
                await world.take("follow-v")
                await for_ever()


async def test_what_is_published_to_another_copy_is_not_begun_here(world: World) -> None:
    async with world.leases.kept("publish-v", "other", 15, lost=lambda: None):
        with pytest.raises(ElsewhereError, match="publisher"):
            async with world.placement().hold(PUSHED):
                pass
        world.published.add("v")  # here, and nobody else's claim counts
        async with world.placement().hold(PUSHED):
            pass


async def test_who_has_no_publisher_gives_way_to_the_copy_that_has(world: World) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(ElsewhereError):
            async with (
                world.placement().hold(WAITING),
                world.leases.kept("publish-v", "other", 15, lost=lambda: None),
            ):
                await for_ever()
    assert await world.leases.holder("follow-v") is None


async def test_who_has_the_publisher_keeps_the_source(world: World) -> None:
    world.published.add("v")
    async with world.leases.kept("publish-v", "me", 15, lost=lambda: None), world.placement().hold(PUSHED):
        await asyncio.sleep(1.2)  # longer than from one look for other publishers to the next
        assert await world.leases.holder("follow-v") == "me"


async def test_who_follows_many_lets_others_have_the_next(world: World) -> None:
    mine, others = world.placement(), world.placement(owner="other")
    async with mine.hold(FollowJob("1")), mine.hold(FollowJob("2")), mine.hold(FollowJob("3")):

        async def follow(placement: SharedPlacement) -> None:
            async with placement.hold(FOLLOW):
                await for_ever()

        both = [asyncio.create_task(follow(placement)) for placement in (mine, others)]
        done, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert await world.leases.holder("follow-v") == "other"
        for task in waiting:
            task.cancel()
        await asyncio.wait(both)
        assert [type(task.exception()) for task in done] == [ElsewhereError]
