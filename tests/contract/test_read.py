from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from eventsourcing.errors import StreamTombstonedError
from eventsourcing.store import EventStore, iterate_stream
from eventsourcing.versions import ANY, EXISTS, NO_STREAM
from tests.contract.conftest import Traits
from tests.contract.helpers import WAIT, new, news, put, texts


async def test_an_empty_store(store: EventStore) -> None:
    assert await store.read_stream("a-1") == []
    assert await store.read_stream("a-1", backwards=True) == []
    assert await store.read_all() == []
    assert await store.read_all(backwards=True) == []
    assert await store.read_all(prefixes=["a-"]) == []
    assert await store.head() is None
    assert await store.stream_version("a-1") is None


@pytest.mark.parametrize(
    ("from_position", "backwards", "limit", "expected"),
    [
        (None, False, 3, [0, 1, 2]),
        (0, False, 1, [0]),
        (7, False, 100, [7, 8, 9]),
        (10, False, 5, []),
        (None, True, 3, [9, 8, 7]),
        (4, True, 2, [4, 3]),
        (0, True, 5, [0]),
        (50, True, 2, [9, 8]),
        (None, False, 0, []),
        (None, True, 0, []),
    ],
)
async def test_read_stream(
    store: EventStore, from_position: int | None, backwards: bool, limit: int, expected: list[int]
) -> None:
    await store.append("a-1", news(10), expected_version=ANY)
    await store.append("a-10", news(3), expected_version=ANY)
    events = await store.read_stream("a-1", from_position=from_position, backwards=backwards, limit=limit)
    assert [event.stream_position for event in events] == expected


async def test_a_negative_limit_is_refused(store: EventStore) -> None:
    with pytest.raises(ValueError, match="limit"):
        await store.read_stream("a-1", limit=-1)
    with pytest.raises(ValueError, match="limit"):
        await store.read_all(limit=-1)


async def test_iterate_stream_pages_through_everything(store: EventStore) -> None:
    await store.append("a-1", news(10), expected_version=ANY)
    for page in (1, 3, 5, 10, 11):
        positions = [event.stream_position async for event in iterate_stream(store, "a-1", page=page)]
        assert positions == list(range(10))
    assert [event.stream_position async for event in iterate_stream(store, "a-1", from_position=8)] == [8, 9]


async def test_read_all_in_commit_order(store: EventStore) -> None:
    for number in range(10):
        await put(store, f"{'ab'[number % 2]}-{number % 3}", str(number))
    events = await store.read_all()
    assert texts(events) == [str(number) for number in range(10)]
    positions = [event.commit_position for event in events]
    assert positions == sorted(set(positions))
    assert await store.head() == positions[-1]
    assert texts(await store.read_all(after=positions[3], limit=2)) == ["4", "5"]
    assert texts(await store.read_all(backwards=True, limit=3)) == ["9", "8", "7"]
    assert texts(await store.read_all(after=positions[3], backwards=True)) == ["2", "1", "0"]
    assert await store.read_all(after=positions[-1]) == []
    assert await store.read_all(after=positions[0], backwards=True) == []
    assert await store.read_all(limit=0) == []


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        (["video-"], ["v1", "v2", "v3"]),
        (["video-1"], ["v1", "v3"]),
        (["video-2", "rule-"], ["v2", "r"]),
        (["v"], ["v1", "v2", "vx", "v3"]),
        (["videos-"], ["vx"]),
        (["nothing-"], []),
        (["", "rule-"], ["v1", "v2", "vx", "r", "v3", "high"]),
        (["\U0010ffff"], ["high"]),
        (["video-", "video-1"], ["v1", "v2", "v3"]),
    ],
)
async def test_prefixes(store: EventStore, prefixes: list[str], expected: list[str]) -> None:
    for stream_name, text in [
        ("video-1", "v1"),
        ("video-2", "v2"),
        ("videos-1", "vx"),
        ("rule-1", "r"),
        ("video-1", "v3"),
        ("\U0010ffff\U0010ffff-1", "high"),
    ]:
        await put(store, stream_name, text)
    assert texts(await store.read_all(prefixes=prefixes)) == expected
    assert texts(await store.read_all(prefixes=prefixes, limit=2)) == expected[:2]
    assert texts(await store.read_all(prefixes=prefixes, backwards=True)) == expected[::-1]


async def test_a_deleted_stream_is_empty_and_its_positions_go_on(store: EventStore, traits: Traits) -> None:
    await store.append("a-1", news(5), expected_version=ANY)
    await put(store, "b-1", "stays")
    await store.delete_stream("a-1")
    assert await store.read_stream("a-1") == []
    if traits.forgets_at_once:
        assert texts(await store.read_all()) == ["stays"]
    assert await store.stream_version("a-1") == (4 if traits.forgets_at_once else None)
    result = await store.append("a-1", [new("again")], expected_version=NO_STREAM)
    assert result.stream_position == 5
    assert texts(await store.read_stream("a-1")) == ["again"]
    assert await store.stream_version("a-1") == 5


@pytest.mark.parametrize(("expected", "fits"), [(ANY, True), (4, True), (EXISTS, False), (3, False)])
async def test_expected_versions_after_a_delete(store: EventStore, expected: int, fits: bool) -> None:
    await store.append("a-1", news(5), expected_version=ANY)
    await store.delete_stream("a-1")
    appended = await asyncio.gather(
        store.append("a-1", [new()], expected_version=expected), return_exceptions=True
    )
    assert isinstance(appended[0], Exception) is not fits
    assert len(await store.read_stream("a-1")) == int(fits)


async def test_deletes_again_and_of_the_unknown(store: EventStore, traits: Traits) -> None:
    await store.delete_stream("nobody-1")
    await store.append("a-1", news(2), expected_version=ANY)
    await store.delete_stream("a-1")
    await store.delete_stream("a-1")
    assert await store.stream_version("a-1") == (1 if traits.forgets_at_once else None)
    assert await store.stream_version("nobody-1") is None


async def test_commit_positions_are_never_given_twice(store: EventStore, traits: Traits) -> None:
    await put(store, "a-1", "one")
    last = await put(store, "b-1", "newest")
    await store.delete_stream("b-1")
    await store.delete_stream("a-1")
    assert await store.head() == (None if traits.forgets_at_once else last)
    assert await put(store, "c-1", "next") > last


async def test_the_id_of_a_deleted_event_is_free(store: EventStore, traits: Traits) -> None:
    if not traits.forgets_at_once:
        pytest.skip("the server remembers what it was asked to store at this place")
    events = news(2)
    await store.append("a-1", events, expected_version=NO_STREAM)
    await store.delete_stream("a-1")
    result = await store.append("a-1", events, expected_version=NO_STREAM)
    assert result.stream_position == 3


async def test_a_tombstone_removes_and_stays(store: EventStore) -> None:
    await store.append("a-1", news(2), expected_version=ANY)
    for stream_name in ("a-1", "a-1", "never-written-1"):
        await store.tombstone_stream(stream_name)
        assert await store.read_stream(stream_name) == []
        assert await store.stream_version(stream_name) is None
        for expected in (ANY, NO_STREAM, EXISTS, 1):
            with pytest.raises(Exception, match=f"stream '{stream_name}' is tombstoned"):
                await store.append(stream_name, [new()], expected_version=expected)
    await store.delete_stream("a-1")
    with pytest.raises(Exception, match="tombstoned"):
        await store.append("a-1", [new()], expected_version=ANY)


async def test_a_cancelled_read_disturbs_nobody(store: EventStore) -> None:
    await store.append("a-1", news(100), expected_version=ANY)
    for _ in range(5):
        tasks = [asyncio.create_task(store.read_stream("a-1")) for _ in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks, timeout=WAIT)
        assert [len(task.result()) for task in tasks[1::2]] == [100] * 15
    assert len(await store.read_all()) == 100


async def test_many_removals_and_appends_at_once_happen_in_their_order(
    store: EventStore, traits: Traits
) -> None:
    """A stream that is deleted between two appends keeps the second, and a tombstoned one refuses what comes later."""
    if not traits.forgets_at_once:
        pytest.skip("calls that are made at once reach the server in any order")
    streams = [f"a-{number}" for number in range(40)]
    works: list[Awaitable[object]] = []
    for stream_name in streams:
        works += [
            put(store, stream_name, *"123"),
            store.delete_stream(stream_name),
            put(store, stream_name, "4"),
        ]
    works += [store.tombstone_stream(stream_name) for stream_name in streams[:20]]
    works += [put(store, stream_name, "5") for stream_name in streams]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[-40:-20]] == [StreamTombstonedError] * 20
    assert not any(isinstance(outcome, Exception) for outcome in [*outcomes[:-40], *outcomes[-20:]])
    for stream_name in streams[:20]:
        assert await store.read_stream(stream_name) == []
    for stream_name in streams[20:]:
        events = await store.read_stream(stream_name)
        assert [(event.stream_position, event.data) for event in events] == [(3, b"4"), (4, b"5")]
