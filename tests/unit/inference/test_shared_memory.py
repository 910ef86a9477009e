from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.inference.shared_memory import FrameSlots, SlotPool


def test_what_one_mapping_writes_the_other_sees() -> None:
    slots = FrameSlots.create(3, 4 * 2 * 3)
    other = FrameSlots.attach(os.dup(slots.fd), 3, 4 * 2 * 3)

    slots.view(1, 2, 4)[:] = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    assert other.view(1, 2, 4).tolist() == slots.view(1, 2, 4).tolist()
    assert not other.view(0, 2, 4).any() and not other.view(2, 2, 4).any()
    slots.close()
    other.close()


def test_smaller_pictures_fit_and_slots_do_not_overlap() -> None:
    slots = FrameSlots.create(4, 10_000)
    for slot in range(4):
        slots.view(slot, 50, 60)[:] = slot + 1

    assert [int(slots.view(slot, 50, 60).min()) for slot in range(4)] == [1, 2, 3, 4]
    assert [int(slots.view(slot, 50, 60).max()) for slot in range(4)] == [1, 2, 3, 4]
    slots.close()


@pytest.mark.parametrize("slot", [-1, 2])
def test_a_slot_out_of_bounds(slot: int) -> None:
    slots = FrameSlots.create(2, 300)
    with pytest.raises(ValueError, match=f"slot {slot} is not one of 0–1"):
        slots.view(slot, 1, 1)
    slots.close()


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, -1), (10, 11), (1 << 40, 1)])
def test_a_picture_that_does_not_fit(height: int, width: int) -> None:
    slots = FrameSlots.create(2, 300)
    with pytest.raises(ValueError, match="does not fit a slot of 300 bytes"):
        slots.view(1, height, width)
    slots.close()


def test_memory_that_is_too_small_is_refused() -> None:
    slots = FrameSlots.create(1, 5000)
    with pytest.raises(ValueError, match="shared memory holds 8192 bytes"):
        FrameSlots.attach(slots.fd, 100, 5000)
    slots.close()


@pytest.mark.parametrize(("count", "size"), [(0, 100), (1, 0)])
def test_no_slots_at_all(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="at least 1 slot"):
        FrameSlots.create(count, size)


def test_the_memory_cannot_be_shrunk_under_its_users() -> None:
    slots = FrameSlots.create(1, 5000)
    with pytest.raises(PermissionError):
        os.ftruncate(slots.fd, 0)
    slots.close()


def test_closing_while_a_view_lives() -> None:
    slots = FrameSlots.create(1, 300)
    view = slots.view(0, 10, 10)
    slots.close()
    slots.close()
    view[:] = 7
    assert view.min() == 7


async def test_slots_run_out_and_come_back() -> None:
    pool = SlotPool(2)
    assert [await pool.acquire("a"), pool.try_acquire("a")] == [0, 1]
    assert pool.try_acquire("a") is None

    waiting = asyncio.create_task(pool.acquire("b"))
    await asyncio.sleep(0)
    assert (pool.free, pool.in_use, pool.waiting) == (0, 2, 1)
    pool.release(0)

    assert await waiting == 0
    assert (pool.held_by("a"), pool.held_by("b"), pool.waiting) == (1, 1, 0)


async def test_releasing_twice_is_an_error() -> None:
    pool = SlotPool(1)
    pool.release(await pool.acquire("a"))
    with pytest.raises(ValueError, match="slot 0 is not in use"):
        pool.release(0)


async def _served(pool: SlotPool, owners: list[str]) -> list[str]:
    """In which order `owners`, who ask in this order, get the slots that are released one by one."""
    order: list[str] = []

    async def ask(owner: str) -> None:
        await pool.acquire(owner)
        order.append(owner)

    held = [slot for slot in range(pool.count) if pool.try_acquire("before") is not None]
    async with asyncio.TaskGroup() as tasks:
        for owner in owners:
            tasks.create_task(ask(owner))
        await asyncio.sleep(0)
        for slot in held:
            pool.release(slot)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    return order


async def test_owners_take_turns() -> None:
    order = await _served(SlotPool(6), ["a", "a", "a", "b", "b", "c"])
    assert order == ["a", "b", "c", "a", "b", "a"]


async def test_who_holds_fewer_goes_first() -> None:
    pool = SlotPool(3)
    greedy = [pool.try_acquire("greedy") for _ in range(2)]
    other = pool.try_acquire("other")
    assert greedy == [0, 1] and other == 2
    first = asyncio.create_task(pool.acquire("greedy"))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.acquire("modest"))
    await asyncio.sleep(0)

    pool.release(2)

    assert await second == 2
    assert not first.done()
    pool.release(0)
    assert await first == 0


async def test_waiting_owners_are_not_passed_by() -> None:
    pool = SlotPool(1)
    slot = await pool.acquire("a")
    waiting = asyncio.create_task(pool.acquire("b"))
    await asyncio.sleep(0)
    pool.release(slot)

    assert pool.try_acquire("a") is None
    assert await waiting == slot


@pytest.mark.parametrize("released_first", [False, True])
async def test_a_cancelled_wait_loses_no_slot(released_first: bool) -> None:
    pool = SlotPool(1)
    slot = await pool.acquire("a")
    waiting = asyncio.create_task(pool.acquire("b"))
    await asyncio.sleep(0)
    if released_first:
        pool.release(slot)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not released_first:
        pool.release(slot)

    assert (pool.free, pool.in_use, pool.waiting) == (1, 0, 0)
    assert pool.try_acquire("c") == slot


async def test_reclaiming_touches_only_the_owners_slots() -> None:
    pool = SlotPool(4)
    for owner in ("a", "a", "b", "a"):
        await pool.acquire(owner)

    assert pool.reclaim("a", [0, 2]) == 1
    assert (pool.held_by("a"), pool.held_by("b"), pool.free) == (2, 1, 1)
    assert pool.reclaim("a") == 2
    assert pool.reclaim("a") == 0
    assert pool.held_by("b") == 1


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "give", "cancel"])), max_size=60))
def test_no_slot_is_lost_or_held_twice(steps: list[tuple[str, str]]) -> None:
    asyncio.run(_random_use(steps))


async def _random_use(steps: list[tuple[str, str]]) -> None:
    pool = SlotPool(2)
    asked: list[tuple[str, asyncio.Task[int]]] = []
    for owner, action in steps:
        mine = [(who, task) for who, task in asked if who == owner]
        if action == "ask":
            asked.append((owner, asyncio.create_task(pool.acquire(owner))))
        elif mine and action == "cancel" and not mine[-1][1].done():
            mine[-1][1].cancel()
            asked.remove(mine[-1])
        elif mine and action == "give" and mine[0][1].done():
            pool.release(mine[0][1].result())
            asked.remove(mine[0])
        for _ in range(3):
            await asyncio.sleep(0)
        held = [task.result() for _, task in asked if task.done()]
        assert len(held) == len(set(held)) == pool.in_use
        assert pool.free == 0 or pool.waiting == 0
        assert pool.free + pool.in_use == 2
    for _, task in asked:
        task.cancel()
    await asyncio.gather(*(task for _, task in asked), return_exceptions=True)


async def test_pools_of_one_memory_hand_out_their_own_slots() -> None:
    files, live = SlotPool(2), SlotPool(3, first=2)
    assert sorted([await files.acquire("a") for _ in range(2)]) == [0, 1]
    assert sorted([await live.acquire("a") for _ in range(3)]) == [2, 3, 4]
    assert (files.free, live.free) == (0, 0)
