"""KurrentDB's adapter where the server goes away and comes back, and what it tells of the server's own ways."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections import Counter
from pathlib import Path

import pytest
from kurrentdbclient.exceptions import ServiceUnavailableError

from eventsourcing.adapters import kurrentdb
from eventsourcing.adapters.kurrentdb import KurrentDbEventStore
from eventsourcing.errors import AppendTooLargeError, StoreUnavailableError
from eventsourcing.events import CaughtUp, NewEvent, RecordedEvent
from eventsourcing.versions import ANY, NO_STREAM
from tests.contract.helpers import collect, new, news, next_item, put, texts, until_caught_up
from tests.peers.kurrentdb.database import Database, Expect, Proposed
from tests.peers.kurrentdb.process import kurrent_process
from tests.peers.kurrentdb.services import Streams
from tests.peers.kurrentdb.serving import serving

KILLS = 3
WRITERS = 4
READ = 600


async def stubbornly(store: KurrentDbEventStore, stream_name: str, event: NewEvent, version: int) -> None:
    """Append until the store says that it is done."""
    while True:
        try:
            expected = NO_STREAM if version < 0 else version
            await store.append(stream_name, [event], expected_version=expected)
            return
        except StoreUnavailableError:
            await asyncio.sleep(0.1)


async def test_what_was_acknowledged_outlives_kills_of_the_server(tmp_path: Path) -> None:
    """Writers that go on, a subscriber that does nothing about it: each event is there and delivered once, in order."""
    async with kurrent_process(tmp_path) as running:
        store = await KurrentDbEventStore.open(running.uri)
        enough = asyncio.Event()
        counts = [0] * WRITERS

        async def write(number: int) -> None:
            while not enough.is_set() or counts[number] < 5:
                await stubbornly(store, f"s-{number}", new(f"{number}.{counts[number]}"), counts[number] - 1)
                counts[number] += 1
                await asyncio.sleep(0.02)

        seen: list[RecordedEvent] = []

        async def follow() -> None:
            async with store.subscribe(prefixes=["s-", "end-"]) as items:
                while not seen or seen[-1].data != b"end":
                    seen.extend(await collect(items, 1))

        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            writing = [tasks.create_task(write(number)) for number in range(WRITERS)]
            for _ in range(KILLS):
                await asyncio.sleep(0.5)
                before = len(seen)
                await running.kill()
                await running.start()
                while len(seen) <= before:
                    await asyncio.sleep(0.05)
            enough.set()
            await asyncio.wait(writing)
            await stubbornly(store, "end-1", new("end"), -1)
            await following
        expected = {f"{number}.{count}" for number in range(WRITERS) for count in range(counts[number])}
        assert Counter(texts(seen)) == Counter([*expected, "end"])
        assert texts(await store.read_all(prefixes=["s-", "end-"], limit=10_000)) == texts(seen)
        for number in range(WRITERS):
            stream = [event.stream_position for event in seen if event.stream_name == f"s-{number}"]
            assert stream == list(range(counts[number]))
        await store.close()


async def test_a_server_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async with kurrent_process(tmp_path) as running:
        store = await KurrentDbEventStore.open(running.uri)
        await running.kill()
        with pytest.raises(StoreUnavailableError, match="KurrentDB"):
            await store.append("a-1", [new()], expected_version=ANY)
        with pytest.raises(StoreUnavailableError, match="KurrentDB"):
            await store.head()
        with pytest.raises(StoreUnavailableError, match="KurrentDB"):
            await KurrentDbEventStore.open(running.uri)
        await running.start()
        await put(store, "a-1", "back")
        assert texts(await store.read_stream("a-1")) == ["back"]
        await store.close()


async def test_a_read_is_whole_though_the_driver_changes_its_connection() -> None:
    """As it does when any call fails: what others read by the old one ends early then, and looks complete."""
    async with serving() as uri:
        store = await KurrentDbEventStore.open(uri)
        for start in range(0, READ, 100):
            await store.append("a-1", news(100, start), expected_version=ANY)
        for pause in (0.01, 0.03, 0.1, 0.2):
            async with asyncio.TaskGroup() as tasks:
                reads = [
                    tasks.create_task(store.read_stream("a-1", limit=READ)),
                    tasks.create_task(store.read_all(prefixes=["a-"], limit=READ)),
                ]
                await asyncio.sleep(pause)
                await store._client.reconnect(connection_id=store._client.connection_id)
            assert [len(read.result()) for read in reads] == [READ, READ]
        await store.close()


async def test_a_call_whose_connection_is_closed_fails_and_does_not_cancel_its_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver closes the connection for all calls when one has failed; gRPC tells the others by a cancellation."""
    asked = asyncio.Event()

    async def never(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Streams, "Delete", never)
    async with serving() as uri:
        store = await KurrentDbEventStore.open(uri)
        deleting = asyncio.create_task(store.delete_stream("a-1"))
        await asked.wait()
        await store._client.connection._grpc_channel.close()
        with pytest.raises(StoreUnavailableError, match="closed before the answer came"):
            await deleting
        asked.clear()
        cancelled = asyncio.create_task(store.delete_stream("a-1"))
        await asked.wait()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled()
        await store.close()


async def test_an_identity_is_the_stores_and_not_the_connections() -> None:
    async with serving() as uri, serving() as other_uri:
        stores = [await KurrentDbEventStore.open(one) for one in (uri, uri, other_uri)]
        assert stores[0].identity == stores[1].identity != stores[2].identity
        for store in stores:
            assert await store.read_all() == []
            await store.close()


async def test_a_node_is_found_by_gossip() -> None:
    async with serving() as uri:
        host = uri.removeprefix("kurrentdb://").partition("?")[0]
        store = await KurrentDbEventStore.open(f"kurrentdb://{host},{host}?tls=false")
        await put(store, "a-1", "found")
        assert texts(await store.read_all()) == ["found"]
        await store.close()


@pytest.mark.parametrize("events", [1, 2_000])
async def test_positions_move_though_nothing_matches(events: int) -> None:
    """Or a checkpoint of a quiet subscriber would stay behind, and it would look at everything again at a restart."""
    async with serving() as uri:
        store = await KurrentDbEventStore.open(uri)
        async with store.subscribe(prefixes=["quiet-"]) as items:
            await until_caught_up(items)
            for start in range(0, events, 100):
                await store.append("busy-1", news(min(100, events), start), expected_version=ANY)
            newest = await store.head()
            position = None
            while position != newest:
                moved = await next_item(items)
                assert isinstance(moved, CaughtUp)
                position = moved.commit_position
            await put(store, "quiet-1", "seen")
            assert texts(await collect(items, 1)) == ["seen"]
        await store.close()


async def test_positions_move_past_what_came_while_the_server_could_not_be_reached() -> None:
    database = Database()
    async with serving(database) as uri:
        store = await KurrentDbEventStore.open(uri)
        items = await (subscription := store.subscribe(prefixes=["quiet-"])).__aenter__()
        await until_caught_up(items)
    port = int(uri.partition("127.0.0.1:")[2].partition("?")[0])
    busy = Proposed(str(new().event_id), "Busy", "application/json", b"{}", b"")
    _, newest = database.append("busy-1", Expect.ANY, [busy])
    async with serving(database, port):
        assert await next_item(items) == CaughtUp(commit_position=newest)
        await subscription.__aexit__(None, None, None)
        await store.close()


async def test_removed_events_are_shown_until_a_scavenge(tmp_path: Path) -> None:
    async with kurrent_process(tmp_path) as running:
        store = await KurrentDbEventStore.open(running.uri)
        await put(store, "gone-1", "1", "2")
        await put(store, "stays-1", "3")
        await store.tombstone_stream("gone-1")
        assert texts(await store.read_all()) == ["1", "2", "3"]
        assert texts(await store.read_all(prefixes=["gone-"])) == ["1", "2"]
        running.scavenge()
        async with asyncio.timeout(10):
            while texts(await store.read_all()) != ["3"]:
                await asyncio.sleep(0.05)
        assert await store.read_all(prefixes=["gone-"]) == []
        await store.close()


async def test_more_than_the_server_takes_at_once_is_refused() -> None:
    async with serving() as uri:
        store = await KurrentDbEventStore.open(uri)
        large = NewEvent(event_id=new().event_id, event_type="Large", data=bytes(2 << 20))
        with pytest.raises(AppendTooLargeError, match="1 events at once"):
            await store.append("a-1", [large], expected_version=ANY)
        await store.close()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://127.0.0.1:2113",
        "http://admin:hush-1@127.0.0.1:2113",
        "kurrentdb://",
        "kurrentdb://admin:hush-1@",
        "kurrentdb://127.0.0.1:1?tls=maybe",
        "kurrentdb://admin:hush-1@127.0.0.1:1?userCertFile=/nowhere",
    ],
)
async def test_a_uri_that_is_none(uri: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        await KurrentDbEventStore.open(uri)
    assert "hush" not in "".join(traceback.format_exception(raised.value))


async def test_streams_of_which_the_newest_events_count_are_kept_short_though_the_first_try_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kurrentdb, "LIMITED_EVERY", 5)
    async with serving() as uri:
        store = await KurrentDbEventStore.open(uri, keep_newest={"lease-": 2})
        set_metadata = store._client.set_stream_metadata

        async def fail(*_: object, **__: object) -> None:
            raise ServiceUnavailableError

        monkeypatch.setattr(store._client, "set_stream_metadata", fail)
        await store.append("lease-1", [new("0")], expected_version=NO_STREAM)
        monkeypatch.setattr(store._client, "set_stream_metadata", set_metadata)
        for version in range(4):
            await store.append("lease-1", [new(str(version + 1))], expected_version=version)
        assert len(await store.read_stream("lease-1")) == 5
        await store.append("lease-1", [new("5")], expected_version=4)
        assert texts(await store.read_stream("lease-1")) == ["4", "5"]
        await store.append("others-1", [new()], expected_version=NO_STREAM)
        await store.append("others-1", news(5), expected_version=0)
        assert len(await store.read_stream("others-1")) == 6
        await store.close()


async def test_a_follower_is_not_read_from() -> None:
    """What it does not know yet would be taken for looked at."""
    with pytest.raises(ValueError, match="nodePreference=follower: events are read from the leader"):
        await KurrentDbEventStore.open("kurrentdb://127.0.0.1:1?tls=false&nodePreference=follower")


async def test_nobody_waits_for_ever_for_a_cluster_that_takes_connections_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver looks for the leader for minutes."""
    monkeypatch.setattr(kurrentdb, "LONGEST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.5 s"):
            await KurrentDbEventStore.open(f"kurrentdb+discover://{host}:{port}?tls=false")


async def test_a_cluster_of_which_nothing_answers_is_said_to_be_away() -> None:
    with pytest.raises(StoreUnavailableError, match="DiscoveryFailed"):
        await KurrentDbEventStore.open("kurrentdb+discover://127.0.0.1:1?tls=false&maxDiscoverAttempts=1")
