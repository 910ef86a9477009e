from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence

import pytest

from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import EventStore
from eventsourcing.versions import ANY
from tests.contract.conftest import PAGE
from tests.contract.helpers import WAIT, collect, new, news, next_item, put, texts, until_caught_up


async def test_an_empty_store_says_so_and_waits(store: EventStore) -> None:
    async with store.subscribe() as items:
        assert await next_item(items) == CaughtUp(commit_position=None)
        waiting = asyncio.create_task(next_item(items))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        position = await put(store, "a-1", "first")
        assert texts(await waiting) == ["first"]  # type: ignore[arg-type]
        assert await next_item(items) == CaughtUp(commit_position=position)


@pytest.mark.parametrize("count", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
async def test_history_then_caught_up_then_what_comes(store: EventStore, count: int) -> None:
    await store.append("a-1", news(count), expected_version=ANY)
    async with store.subscribe() as items:
        events, caught_up = await until_caught_up(items)
        assert texts(events) == [str(number) for number in range(count)]
        assert caught_up.commit_position == await store.head()
        position = await put(store, "a-1", "live")
        assert texts(await collect(items, 1)) == ["live"]
        assert await next_item(items) == CaughtUp(commit_position=position)


async def test_from_any_position(store: EventStore) -> None:
    positions = [await put(store, "a-1", str(number)) for number in range(20)]
    for start in range(20):
        async with store.subscribe(after=positions[start]) as items:
            events, caught_up = await until_caught_up(items)
            assert texts(events) == [str(number) for number in range(start + 1, 20)]
            assert caught_up.commit_position == positions[-1]


async def test_prefixes_and_the_position_of_caught_up(store: EventStore) -> None:
    for number in range(30):
        await put(store, f"{'ab'[number % 3 == 0]}-1", str(number))
    async with store.subscribe(prefixes=["b-"]) as items:
        events, caught_up = await until_caught_up(items)
        assert texts(events) == [str(number) for number in range(0, 30, 3)]
        assert caught_up.commit_position == await store.head()
        await put(store, "a-1", "unseen")
        await put(store, "b-2", "seen")
        assert texts(await collect(items, 1)) == ["seen"]


async def test_subscribers_do_not_disturb_each_other(store: EventStore) -> None:
    async def follow(prefixes: Sequence[str], count: int) -> list[str]:
        async with store.subscribe(prefixes=prefixes) as items:
            return texts(await collect(items, count))

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow(["a-"], 25)) for _ in range(5)]
        everything = tasks.create_task(follow([], 50))
        for number in range(50):
            await put(store, f"{'ab'[number % 2]}-1", str(number))
    assert all(task.result() == [str(n) for n in range(0, 50, 2)] for task in followers)
    assert everything.result() == [str(n) for n in range(50)]


async def test_a_slow_subscriber_gets_pages_not_a_pile(store: EventStore) -> None:
    async with store.subscribe() as items:
        assert isinstance(await next_item(items), CaughtUp)
        for start in range(0, 500, 50):
            await store.append("a-1", news(50, start), expected_version=ANY)
        sizes, seen = [], list[RecordedEvent]()
        while len(seen) < 500:
            item = await next_item(items)
            assert not isinstance(item, CaughtUp)
            sizes.append(len(item))
            seen += item
    assert max(sizes) <= PAGE
    assert texts(seen) == [str(number) for number in range(500)]


async def test_a_cancelled_wait_loses_nothing(store: EventStore) -> None:
    rng = random.Random(7)
    seen: list[str] = []
    async with store.subscribe() as items:
        for number in range(30):
            waiting = asyncio.create_task(next_item(items))
            await asyncio.sleep(0)
            await put(store, "a-1", str(number))
            await asyncio.sleep(rng.choice([0, 0.001]))
            if not waiting.done():
                waiting.cancel()
            await asyncio.wait([waiting], timeout=WAIT)
            if not waiting.cancelled() and not isinstance(item := waiting.result(), CaughtUp):
                seen += texts(item)
        await put(store, "a-1", "end")
        while "end" not in seen:
            seen += texts(await collect(items, 1))
    assert seen == [*map(str, range(30)), "end"]


async def test_a_delete_does_not_stop_a_subscription(store: EventStore) -> None:
    await store.append("a-1", news(20), expected_version=ANY)
    async with store.subscribe() as items:
        first = await next_item(items)
        assert not isinstance(first, CaughtUp)
        await store.delete_stream("a-1")
        await put(store, "b-1", "after")
        assert texts(await collect(items, 1)) == ["after"]
        await store.delete_stream("b-1")
        await put(store, "c-1", "later")
        assert texts(await collect(items, 1)) == ["later"]


async def test_close_ends_subscriptions(store: EventStore) -> None:
    began = [asyncio.Event() for _ in range(3)]

    async def follow(begun: asyncio.Event) -> None:
        async with store.subscribe() as items:
            async for _ in items:
                begun.set()

    followers = [asyncio.create_task(follow(begun)) for begun in began]
    await put(store, "a-1", "one")
    async with asyncio.timeout(WAIT):
        for begun in began:
            await begun.wait()
        await store.close()
        await asyncio.gather(*followers)


async def test_an_iterator_ends_with_its_context(store: EventStore) -> None:
    await put(store, "a-1", "one")
    async with store.subscribe() as items:
        await next_item(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_nothing_becomes_visible_behind_a_reader(store: EventStore) -> None:
    """Writers of several streams, followers from the start and from the middle: all see one same order, each
    event once, and the positions of a stream without gaps."""
    writers, each = 8, 25

    async def write(number: int) -> None:
        rng = random.Random(number)
        for index in range(each):
            events = [new(f"{number}.{index}") for _ in range(rng.randint(1, 3))]
            await store.append(f"s-{rng.randint(0, 4)}", events, expected_version=ANY)
            await asyncio.sleep(rng.choice([0, 0, 0.001]))

    async def follow() -> list[RecordedEvent]:
        async with store.subscribe() as items:
            seen: list[RecordedEvent] = []
            while not seen or seen[-1].data != b"last":
                seen += await collect(items, 1)
            return seen

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow()) for _ in range(4)]
        async with asyncio.TaskGroup() as writing:
            for number in range(writers):
                writing.create_task(write(number))
        await put(store, "s-0", "last")
    log = await store.read_all(limit=10_000)
    assert all(task.result() == log for task in followers)
    assert [event.commit_position for event in log] == sorted({event.commit_position for event in log})
    positions: dict[str, list[int]] = defaultdict(list)
    for event in log:
        positions[event.stream_name].append(event.stream_position)
    assert all(found == list(range(len(found))) for found in positions.values())
