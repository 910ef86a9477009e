from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsourcing.errors import (
    EventIdConflictError,
    StoreUnavailableError,
    StreamTombstonedError,
    WrongExpectedVersionError,
)
from eventsourcing.events import NewEvent
from eventsourcing.store import EventStore
from eventsourcing.versions import ANY, EXISTS, NO_STREAM, ExpectedVersion
from tests.contract.conftest import Traits
from tests.contract.helpers import WAIT, new, news, put, texts


async def test_what_is_appended_is_read_back_whole(store: EventStore) -> None:
    event = new("hello")
    before = time.time()
    result = await store.append("a-1", [event], expected_version=NO_STREAM)
    [read] = await store.read_stream("a-1")
    assert (read.stream_name, read.stream_position, read.commit_position) == (
        "a-1",
        0,
        result.commit_position,
    )
    assert (read.event_id, read.event_type, read.data) == (event.event_id, "Said", b"hello")
    assert read.metadata == {"correlation_id": "hello"}
    assert before - 1 <= read.recorded_at <= time.time() + 1


async def test_an_event_without_metadata_has_none(store: EventStore) -> None:
    event = NewEvent(event_id=new().event_id, event_type="Said", data=b"")
    await store.append("a-1", [event], expected_version=ANY)
    [read] = await store.read_stream("a-1")
    assert (read.data, read.metadata) == (b"", {})


async def test_positions_of_a_stream_count_from_zero(store: EventStore) -> None:
    first = await store.append("a-1", news(3), expected_version=NO_STREAM)
    other = await store.append("b-1", news(1), expected_version=NO_STREAM)
    second = await store.append("a-1", news(2), expected_version=2)
    assert (first.stream_position, other.stream_position, second.stream_position) == (2, 0, 4)
    assert first.commit_position < other.commit_position < second.commit_position
    assert [event.stream_position for event in await store.read_stream("a-1")] == [0, 1, 2, 3, 4]


FITS: list[tuple[int, ExpectedVersion]] = [(0, ANY), (0, NO_STREAM), (2, ANY), (2, EXISTS), (2, 1)]
FAILS: list[tuple[int, ExpectedVersion]] = [(0, EXISTS), (0, 0), (0, -1), (2, NO_STREAM), (2, 0), (2, 2)]


@pytest.mark.parametrize(("held", "expected"), FITS)
async def test_expected_version_that_fits(store: EventStore, held: int, expected: ExpectedVersion) -> None:
    if held:
        await store.append("a-1", news(held), expected_version=ANY)
    result = await store.append("a-1", [new()], expected_version=expected)
    assert result.stream_position == held


@pytest.mark.parametrize(("held", "expected"), FAILS)
async def test_expected_version_that_does_not_fit(
    store: EventStore, held: int, expected: ExpectedVersion
) -> None:
    if held:
        await store.append("a-1", news(held), expected_version=ANY)
    with pytest.raises(WrongExpectedVersionError) as raised:
        await store.append("a-1", news(3), expected_version=expected)
    assert raised.value.stream_name == "a-1"
    assert raised.value.expected == expected
    assert raised.value.actual == (held - 1 if held else None)
    assert len(await store.read_stream("a-1")) == held


async def test_an_append_of_nothing_is_refused(store: EventStore) -> None:
    with pytest.raises(ValueError, match="at least one event"):
        await store.append("a-1", [], expected_version=ANY)


async def test_a_repeated_append_returns_the_first_result(store: EventStore) -> None:
    events = news(3)
    first = await store.append("a-1", events, expected_version=NO_STREAM)
    assert await store.append("a-1", events, expected_version=NO_STREAM) == first
    assert await store.append("a-1", events, expected_version=ANY) == first
    assert len(await store.read_stream("a-1")) == 3


async def test_a_repeated_append_is_known_after_later_events(store: EventStore, traits: Traits) -> None:
    events = news(2)
    first = await store.append("a-1", events, expected_version=NO_STREAM)
    await put(store, "a-1", "later", "and later")
    later: list[ExpectedVersion] = [3] if traits.knows_ids else []
    for expected in (NO_STREAM, ANY, EXISTS, *later):
        assert await store.append("a-1", events, expected_version=expected) == first
    assert texts(await store.read_stream("a-1")) == ["0", "1", "later", "and later"]


async def test_repeats_and_new_appends_at_once(store: EventStore) -> None:
    """Repeats of the same append, together in flight, are stored once; their neighbours do not suffer."""
    events = news(2)
    repeats = [store.append("a-1", events, expected_version=NO_STREAM) for _ in range(10)]
    others = [store.append(f"b-{n}", [new()], expected_version=NO_STREAM) for n in range(10)]
    results = await asyncio.gather(*repeats, *others)
    assert len({result.commit_position for result in results[:10]}) == 1
    assert len({result.commit_position for result in results}) == 11
    assert len(await store.read_all()) == 12


async def test_an_event_id_used_elsewhere_is_a_conflict(store: EventStore, traits: Traits) -> None:
    a, b, c = news(3)
    await store.append("a-1", [a, b], expected_version=NO_STREAM)
    conflicts = [("a-1", [b, a]), ("a-1", [a, b, c]), ("a-1", [c, c])]
    if traits.knows_ids:
        conflicts += [("b-1", [a]), ("a-1", [c, a])]
    for stream_name, events in conflicts:
        with pytest.raises(EventIdConflictError):
            await store.append(stream_name, events, expected_version=ANY)
    assert len(await store.read_all()) == 2


async def test_one_wrong_version_does_not_spoil_its_neighbours(store: EventStore) -> None:
    await put(store, "a-1", "first")
    appends = [
        store.append("a-1", [new()], expected_version=NO_STREAM if n % 3 == 0 else ANY) for n in range(30)
    ]
    results = await asyncio.gather(*appends, return_exceptions=True)
    wrong = [n for n, result in enumerate(results) if isinstance(result, WrongExpectedVersionError)]
    assert wrong == list(range(0, 30, 3))
    assert [event.stream_position for event in await store.read_stream("a-1")] == list(range(21))


async def test_of_writers_at_the_same_version_one_wins(store: EventStore) -> None:
    appends = [store.append("a-1", news(2), expected_version=NO_STREAM) for _ in range(20)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert sum(not isinstance(result, WrongExpectedVersionError) for result in results) == 1
    assert len(await store.read_stream("a-1")) == 2


async def test_a_cancelled_append_is_whole_or_not_there(store: EventStore) -> None:
    tasks = [
        asyncio.create_task(store.append(f"a-{n}", news(3), expected_version=NO_STREAM)) for n in range(40)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks, timeout=WAIT)
    await put(store, "b-1", "the store goes on")
    counts = [len(await store.read_stream(f"a-{n}")) for n in range(40)]
    assert set(counts[::2]) <= {0, 3}
    assert set(counts[1::2]) == {3}


async def test_close_finishes_what_was_accepted(store: EventStore) -> None:
    appends = [asyncio.create_task(store.append("a-1", [new()], expected_version=ANY)) for _ in range(200)]
    await asyncio.sleep(0)
    async with asyncio.timeout(WAIT):
        await store.close()
        results = await asyncio.gather(*appends)
    assert sorted(result.stream_position for result in results) == list(range(200))


async def test_a_closed_store_refuses_everything(store: EventStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.append("a-1", [new()], expected_version=ANY)
    with pytest.raises(StoreUnavailableError):
        await store.read_stream("a-1")
    with pytest.raises(StoreUnavailableError):
        await store.read_all()
    with pytest.raises(StoreUnavailableError):
        await store.head()
    with pytest.raises(StoreUnavailableError):
        await store.delete_stream("a-1")
    with pytest.raises(StoreUnavailableError):
        store.subscribe()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), data=st.binary(max_size=9_000))
async def test_any_name_and_any_bytes_come_back(store: EventStore, name: str, data: bytes) -> None:
    event = NewEvent(event_id=new().event_id, event_type=name, data=data, metadata={name: name})
    await store.append(f"x{name}", [event], expected_version=ANY)
    [read] = await store.read_stream(f"x{name}", backwards=True, limit=1)
    assert (read.stream_name, read.event_type, read.data) == (f"x{name}", name, data)
    assert read.metadata == {name: name}


async def test_a_tombstoned_stream_refuses_an_append_that_it_once_took(store: EventStore) -> None:
    events = news(1)
    await store.append("a-1", events, expected_version=NO_STREAM)
    await store.tombstone_stream("a-1")
    with pytest.raises(StreamTombstonedError):
        await store.append("a-1", events, expected_version=ANY)
