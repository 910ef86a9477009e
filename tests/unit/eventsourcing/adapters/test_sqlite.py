"""What only the SQLite store does: the contract that it shares with others is in tests/contract."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from eventsourcing.adapters import _sqlite_writer
from eventsourcing.adapters._sqlite_database import READER_CACHE_KB, WRITER_CACHE_KB
from eventsourcing.adapters.sqlite import READERS, SqliteEventStore
from eventsourcing.errors import StoreUnavailableError, WrongExpectedVersionError
from eventsourcing.events import CaughtUp, NewEvent
from eventsourcing.versions import ANY, NO_STREAM
from tests.contract.helpers import WAIT, collect, new, news, next_item, put, texts


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    opened = await SqliteEventStore.open(tmp_path / "events.db")
    yield opened
    await opened.close()


def big(size: int) -> NewEvent:
    return NewEvent(event_id=new().event_id, event_type="Big", data=bytes(size))


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = await SqliteEventStore.open(path, clock=lambda: 1234.5)
    await store.append("a-1", news(5), expected_version=NO_STREAM)
    await store.append("b-1", news(1), expected_version=NO_STREAM)
    last = await put(store, "gone-1", "x")
    await store.delete_stream("gone-1")
    await store.tombstone_stream("b-1")
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["events.db"]

    store = await SqliteEventStore.open(path)
    try:
        assert [event.recorded_at for event in await store.read_stream("a-1")] == [1234.5] * 5
        assert await put(store, "gone-1", "y") > last
        assert [event.stream_position for event in await store.read_stream("gone-1")] == [1]
        with pytest.raises(Exception, match="tombstoned"):
            await put(store, "b-1", "z")
    finally:
        await store.close()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    store = await SqliteEventStore.open(tmp_path / "events.db", max_bytes=1_000_000)
    try:
        await put(store, "small-1", "before")
        with pytest.raises(StoreUnavailableError, match="full") as raised:
            for _ in range(20):
                await store.append("big-1", [big(100_000)], expected_version=ANY)
        assert isinstance(raised.value.__cause__, apsw.FullError)
        held = len(await store.read_stream("big-1"))
        assert 5 <= held < 10
        await store.delete_stream("big-1")
        result = await store.append("big-1", [big(100_000)], expected_version=ANY)
        assert result.stream_position == held
    finally:
        await store.close()


async def test_an_append_that_does_not_fit_spoils_no_neighbour(tmp_path: Path) -> None:
    store = await SqliteEventStore.open(tmp_path / "events.db", max_bytes=1_000_000)
    try:
        appends = [
            store.append(f"a-{n}", [big(5_000_000 if n == 5 else 100)], expected_version=ANY)
            for n in range(10)
        ]
        results = await asyncio.gather(*appends, return_exceptions=True)
        failed = [n for n, result in enumerate(results) if isinstance(result, StoreUnavailableError)]
        assert failed == [5]
        assert len(await store.read_all()) == 9
    finally:
        await store.close()


async def test_a_value_that_sqlite_cannot_take_spoils_no_neighbour(store: SqliteEventStore) -> None:
    appends = [
        store.append("\ud800" if n == 3 else f"a-{n}", [new()], expected_version=ANY) for n in range(8)
    ]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, UnicodeEncodeError)] == [3]
    assert len(await store.read_all()) == 7


async def test_writers_wait_for_a_place_in_the_queue(tmp_path: Path) -> None:
    store = await SqliteEventStore.open(tmp_path / "events.db", queue_size=4)
    try:
        tasks = [asyncio.create_task(store.append("a-1", [new()], expected_version=ANY)) for _ in range(50)]
        await asyncio.sleep(0)
        assert store.waiting_appends == 4
        for task in tasks[10:40:2]:
            task.cancel()
        async with asyncio.timeout(WAIT):
            done = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [result for result in done if not isinstance(result, BaseException)]
        assert len(kept) >= 35
        assert store.waiting_appends == 0
        await put(store, "a-1", "the queue is open again")
    finally:
        await store.close()


async def test_close_refuses_who_still_waits_for_a_place(tmp_path: Path) -> None:
    store = await SqliteEventStore.open(tmp_path / "events.db", queue_size=4)
    tasks = [asyncio.create_task(store.append("a-1", [new()], expected_version=ANY)) for _ in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(WAIT):
        await store.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, StoreUnavailableError) for result in results] == [False] * 4 + [True] * 16


async def test_the_file_shrinks_after_a_delete(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = await SqliteEventStore.open(path)
    for _ in range(8):
        await store.append("big-1", [big(10_000) for _ in range(100)], expected_version=ANY)
    await store.delete_stream("big-1")
    await store.close()
    store = await SqliteEventStore.open(path)
    try:
        await put(store, "a-1", "the writer gives pages back when it has nothing else to do")
        async with asyncio.timeout(WAIT):
            while (free := _pragma(path, "freelist_count")) > 0:
                await asyncio.sleep(0.01)
        assert free == 0
    finally:
        await store.close()
    assert path.stat().st_size < 1_000_000


def _pragma(path: Path, name: str) -> int:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.pragma(name))
    finally:
        connection.close()


async def test_settings_of_the_file(store: SqliteEventStore, tmp_path: Path) -> None:
    await put(store, "a-1", "x")
    path = tmp_path / "events.db"
    assert _pragma(path, "auto_vacuum") == 2
    assert _pragma(path, "user_version") == 1
    assert (tmp_path / "events.db-wal").exists()


async def test_what_is_kept_of_the_file_in_memory_does_not_grow_with_it(store: SqliteEventStore) -> None:
    before = apsw.memory_used()
    for number in range(16):
        await store.append(f"big-{number}", [big(20_000) for _ in range(64)], expected_version=ANY)
    for _ in range(4):
        async with asyncio.TaskGroup() as tasks:
            for number in range(16):
                tasks.create_task(store.read_stream(f"big-{number}"))
    kept = apsw.memory_used() - before
    most = (WRITER_CACHE_KB + READERS * READER_CACHE_KB) * 1024
    assert most / 4 < kept < most * 1.25


async def test_the_log_is_checkpointed_under_looping_readers(tmp_path: Path) -> None:
    """It begins anew: after a while it is half as long as what was written. Nobody says after how long a while."""
    path = tmp_path / "events.db"
    store = await SqliteEventStore.open(path)
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            await store.read_all(limit=200)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(read())
            written = 0
            while written < 2 * (tmp_path / "events.db-wal").stat().st_size or written < 40_000_000:
                await store.append("a-1", [big(40_000) for _ in range(20)], expected_version=ANY)
                written += 20 * 40_000
                assert written < 400_000_000, "the log only grows"
            done.set()
    finally:
        await store.close()


async def test_another_file_is_not_touched(tmp_path: Path) -> None:
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("this is no database, and it is long enough to be taken for one " * 40)
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(StoreUnavailableError, match="NotADBError"):
        await SqliteEventStore.open(text)
    with pytest.raises(StoreUnavailableError, match="no event store of version 1"):
        await SqliteEventStore.open(other)
    with pytest.raises(StoreUnavailableError, match="CantOpen"):
        await SqliteEventStore.open(tmp_path / "nowhere" / "events.db")


async def test_two_stores_on_one_file_take_turns(tmp_path: Path) -> None:
    """Not the way to run it, but nothing breaks: no position is given twice, and subscribers see both."""
    first = await SqliteEventStore.open(tmp_path / "events.db")
    second = await SqliteEventStore.open(tmp_path / "events.db")
    try:
        async with second.subscribe() as items:
            assert isinstance(await next_item(items), CaughtUp)
            appends = [
                store.append("a-1", [new(str(n))], expected_version=ANY)
                for n in range(40)
                for store in (first, second)
            ]
            await asyncio.gather(*appends)
            with pytest.raises(WrongExpectedVersionError):
                await second.append("a-1", [new()], expected_version=NO_STREAM)
            await put(first, "b-1", "end")
            seen = await collect(items, 81)
        assert seen[-1].stream_name == "b-1"
        assert [event.stream_position for event in seen[:-1]] == list(range(80))
        assert seen == await first.read_all()
    finally:
        await first.close()
        await second.close()


async def test_a_sparse_prefix_is_found_in_a_long_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, gaps that deletes left, and a read that runs out of time must not change the answer."""
    monkeypatch.setattr("eventsourcing.adapters.sqlite.WINDOW", 7)
    monkeypatch.setattr("eventsourcing.adapters.sqlite.SCAN_SECONDS", 0.0)
    rng = random.Random(3)
    store = await SqliteEventStore.open(tmp_path / "events.db")
    try:
        for number in range(300):
            await put(store, rng.choice(["a-1", "a-2", "b-1", "gone-1"]), str(number))
        await put(store, "rare-1", "found")
        await store.delete_stream("gone-1")
        everything = await store.read_all()
        for prefix in ("a-", "b-", "rare-", "gone-"):
            expected = [event for event in everything if event.stream_name.startswith(prefix)]
            assert await store.read_all(prefixes=[prefix]) == expected
        async with store.subscribe(prefixes=["rare-"]) as items:
            assert texts(await collect(items, 1)) == ["found"]
    finally:
        await store.close()


async def test_a_failing_writer_leaves_nobody_waiting(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(group: object) -> list[object]:
        raise MemoryError

    monkeypatch.setattr(store._writer, "_write", broken)
    async with asyncio.timeout(WAIT):
        with pytest.raises(StoreUnavailableError, match="writer has failed") as raised:
            await put(store, "a-1", "x")
        assert isinstance(raised.value.__cause__, MemoryError)
        with pytest.raises(StoreUnavailableError, match="closed"):
            await put(store, "a-1", "y")


async def test_a_store_has_an_identity_and_remembers_its_last_position(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = await SqliteEventStore.open(path)
    identity = store.identity
    assert (len(identity), store.last_position) == (36, 0)
    await put(store, "a-1", "x")
    last = await put(store, "a-1", "y")
    assert store.last_position == last
    await store.tombstone_stream("a-1")
    await store.close()
    store = await SqliteEventStore.open(path)
    assert (store.identity, store.last_position) == (identity, last)
    await store.close()
    other = await SqliteEventStore.open(tmp_path / "other.db")
    assert other.identity != identity
    await other.close()


async def test_a_store_from_before_gets_an_identity(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = await SqliteEventStore.open(path)
    await put(store, "a-1", "x")
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE meta")
    connection.close()
    store = await SqliteEventStore.open(path)
    assert len(store.identity) == 36
    assert len(await store.read_all()) == 1
    await store.close()


async def test_a_removal_that_fails_spoils_no_neighbour(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a-1", "b-1", "c-1"):
        await put(store, name, "x")
    remove = store._writer._remove_stream

    def failing(name: str, *, tombstone: bool) -> None:
        remove(name, tombstone=tombstone)
        if name == "b-1":
            raise apsw.IOError("the disk cannot be read")

    monkeypatch.setattr(store._writer, "_remove_stream", failing)
    outcomes = await asyncio.gather(
        *(store.tombstone_stream(name) for name in ("a-1", "b-1", "c-1")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreUnavailableError, type(None)]
    assert [len(await store.read_stream(name)) for name in ("a-1", "b-1", "c-1")] == [0, 1, 0]


async def test_a_transaction_removes_a_bounded_number_of_events(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_writer, "REMOVED_EVENTS", 10)
    for number in range(12):
        await store.append(f"a-{number}", news(5), expected_version=NO_STREAM)
    done: list[int] = []
    transaction = store._writer._removal_transaction

    def counted(removals: list[_sqlite_writer.Removal]) -> list[_sqlite_writer.Result]:
        results = transaction(removals)
        done.append(len(results))
        return results

    monkeypatch.setattr(store._writer, "_removal_transaction", counted)
    await asyncio.gather(*(store.tombstone_stream(f"a-{number}") for number in range(12)))
    assert sum(done) == 12
    assert max(done) <= 2  # 5 events and a head each
    assert await store.read_all() == []
