from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.decider import Loaded, StateCache, execute, load
from eventsourcing.errors import StreamTombstonedError, WrongExpectedVersionError
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.versions import ExpectedVersion
from tests.unit.eventsourcing.counter import (
    CODEC,
    Add,
    Added,
    Close,
    Closed,
    Counter,
    CounterEvent,
    FullError,
)

COUNTER = Counter()


class RacingStore(MemoryEventStore):
    """Lets a rival append `rivals` times, each time just before the append that it would spoil."""

    def __init__(self, rivals: int) -> None:
        super().__init__()
        self.rivals = rivals

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if self.rivals:
            self.rivals -= 1
            rival = [CODEC.encode(Added(10))]
            await super().append(stream_name, rival, expected_version=expected_version)
        return await super().append(stream_name, events, expected_version=expected_version)


async def test_execute_decides_appends_and_returns_the_new_state() -> None:
    store = MemoryEventStore()
    first = await execute(store, CODEC, COUNTER, "c-1", Add(2))
    second = await execute(store, CODEC, COUNTER, "c-1", Close(), metadata={"correlation_id": "x"})
    assert (first.state, first.events, first.stream_position) == (2, (Added(1), Added(1)), 1)
    assert (second.state, second.events, second.stream_position) == (2, (Closed(2),), 2)
    assert second.commit_position == await store.head()
    [closed] = await store.read_stream("c-1", from_position=2)
    assert closed.metadata == {"correlation_id": "x"}


async def test_load() -> None:
    store = MemoryEventStore()
    assert await load(store, CODEC, COUNTER, "c-1") == Loaded(0, None)
    await execute(store, CODEC, COUNTER, "c-1", Add(7))
    assert await load(store, CODEC, COUNTER, "c-1") == Loaded(7, 6)


async def test_a_command_that_changes_nothing_appends_nothing() -> None:
    store = MemoryEventStore()
    await execute(store, CODEC, COUNTER, "c-1", Add(3))
    outcome = await execute(store, CODEC, COUNTER, "c-1", Add(0))
    assert (outcome.state, outcome.events) == (3, ())
    assert outcome.stream_position is outcome.commit_position is None
    assert len(await store.read_all()) == 3


async def test_a_refusal_reaches_the_caller() -> None:
    store = MemoryEventStore()
    with pytest.raises(FullError, match="0 and 101 are more than 100"):
        await execute(store, CODEC, COUNTER, "c-1", Add(101))
    assert await store.head() is None


async def test_a_lost_race_is_decided_again_on_the_new_state() -> None:
    store = RacingStore(rivals=3)
    outcome = await execute(store, CODEC, COUNTER, "c-1", Add(1))
    assert (outcome.state, outcome.stream_position) == (31, 3)


async def test_a_race_may_change_the_decision() -> None:
    store = RacingStore(rivals=2)
    with pytest.raises(FullError, match="10 and 95"):
        await execute(store, CODEC, COUNTER, "c-1", Add(95))


async def test_races_are_bounded() -> None:
    store = RacingStore(rivals=9)
    with pytest.raises(WrongExpectedVersionError):
        await execute(store, CODEC, COUNTER, "c-1", Add(1), max_attempts=4)
    assert store.rivals == 5
    with pytest.raises(ValueError, match="max_attempts must be at least 1, not 0"):
        await execute(store, CODEC, COUNTER, "c-1", Add(1), max_attempts=0)


async def test_many_at_once_lose_no_command() -> None:
    store = MemoryEventStore()
    commands = [execute(store, CODEC, COUNTER, "c-1", Add(2), max_attempts=50) for _ in range(20)]
    await asyncio.gather(*commands)
    assert await load(store, CODEC, COUNTER, "c-1") == Loaded(40, 39)


async def test_ids_may_be_given() -> None:
    def ids(event: CounterEvent, index: int) -> UUID:
        return uuid5(NAMESPACE_OID, f"{event} {index}")

    store = MemoryEventStore()
    await execute(store, CODEC, COUNTER, "c-1", Add(2), event_ids=ids)
    stored = [event.event_id for event in await store.read_stream("c-1")]
    assert stored == [ids(Added(1), 0), ids(Added(1), 1)]


async def test_after_a_delete_a_stream_starts_anew_and_after_a_tombstone_not() -> None:
    store = MemoryEventStore()
    await execute(store, CODEC, COUNTER, "c-1", Add(3))
    await store.delete_stream("c-1")
    outcome = await execute(store, CODEC, COUNTER, "c-1", Add(1))
    assert (outcome.state, outcome.stream_position) == (1, 3)
    await store.tombstone_stream("c-1")
    with pytest.raises(StreamTombstonedError):
        await execute(store, CODEC, COUNTER, "c-1", Add(1))


class ReadCountingStore(MemoryEventStore):
    """Knows how many events were read from streams."""

    read = 0

    async def read_stream(self, *arguments: Any, **options: Any) -> list[RecordedEvent]:
        events = await super().read_stream(*arguments, **options)
        self.read += len(events)
        return events


async def test_a_cached_state_is_brought_up_to_date_with_what_was_appended_since() -> None:
    store, cache = ReadCountingStore(), StateCache[int](100)
    await execute(store, CODEC, COUNTER, "c-1", Add(5), cache=cache)
    assert await load(store, CODEC, COUNTER, "c-1", cache=cache) == Loaded(5, 4)
    assert store.read == 0
    await execute(store, CODEC, COUNTER, "c-1", Add(2))  # another process
    store.read = 0
    outcome = await execute(store, CODEC, COUNTER, "c-1", Add(1), cache=cache)
    assert (outcome.state, store.read) == (8, 2)


async def test_with_a_cache_a_lost_race_is_decided_on_the_new_state() -> None:
    store, cache = RacingStore(rivals=0), StateCache[int](100)
    await execute(store, CODEC, COUNTER, "c-1", Add(1), cache=cache)
    store.rivals = 3
    outcome = await execute(store, CODEC, COUNTER, "c-1", Add(1), cache=cache)
    assert outcome.state == 32
    assert cache.get("c-1") == Loaded(32, 4)


def test_a_cache_holds_the_states_used_last_and_never_an_older_one() -> None:
    cache = StateCache[int](10)
    cache.put("a", Loaded(1, 4))
    cache.put("b", Loaded(2, 4))
    cache.put("a", Loaded(0, 2))
    assert cache.get("a") == Loaded(1, 4)
    cache.put("a", Loaded(3, 5))
    assert (cache.get("a"), cache.get("b")) == (Loaded(3, 5), None)
    cache.put("long", Loaded(9, 1000))
    assert (cache.get("a"), cache.get("long")) == (None, Loaded(9, 1000))


def test_a_cache_holds_so_many_states_at_most_however_few_events_they_have() -> None:
    cache = StateCache[int](100, max_states=2)
    for name in ("a", "b", "a", "c"):
        cache.put(name, Loaded(1, 0))
    assert [cache.get(name) for name in "abc"] == [Loaded(1, 0), None, Loaded(1, 0)]
