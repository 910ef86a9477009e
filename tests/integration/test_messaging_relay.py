"""The relay against the real RabbitMQ: nothing lost, nothing out of order, whoever dies."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.application.leadership import Leadership, SoleLeadership
from monolith.domain.events import DOMAIN_EVENTS, SegmentCompleted, VideoSubmitted, video_stream
from monolith.messaging.connection import MessageBroker
from monolith.messaging.names import EVENTS_EXCHANGE
from monolith.messaging.pipeline import IN_FLIGHT
from monolith.messaging.relay import Relay
from monolith.messaging.schemas import EventMessages
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.peers.subscriber import bind, channel_to, once, positions, told

CODEC = EventCodec(DOMAIN_EVENTS)
STREAMS = 5


@pytest.fixture(scope="module")
def mq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    store = await SqliteEventStore.open(tmp_path / "events.db")
    yield store
    await store.close()


class Leads:
    """Leadership that a test gives and takes."""

    def __init__(self, *, leads: bool) -> None:
        self._is: dict[bool, asyncio.Event] = {True: asyncio.Event(), False: asyncio.Event()}
        self._is[leads].set()

    @property
    def leads(self) -> bool:
        return self._is[True].is_set()

    async def wait_for(self, leads: bool) -> None:
        await self._is[leads].wait()

    def become(self, *, leads: bool) -> None:
        self._is[not leads].clear()
        self._is[leads].set()


def relay_of(store: SqliteEventStore, url: str, leadership: Leadership | None = None) -> Relay:
    messages = EventMessages(CODEC, f"urn:uuid:{store.identity}")
    return Relay(
        store,
        messages,
        StreamCheckpoints(store),
        leadership or SoleLeadership(),
        MessageBroker(url),
        lambda: store.last_position,
    )


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def append(store: SqliteEventStore, stream: int, count: int = 1) -> int:
    events = [
        CODEC.encode(
            SegmentCompleted(video_id=str(stream), run_id="r", segment=n, frames=1, dropped=0, last_frame=1),
            metadata={"correlation_id": str(stream)},
        )
        for n in range(count)
    ]
    appended = await store.append(video_stream(str(stream)), events, expected_version=ANY)
    return appended.commit_position


async def until_told(relay: Relay, position: int, timeout: float = 120) -> None:
    async with asyncio.timeout(timeout):
        while (relay.position or 0) < position:
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def until_confirmed(relay: Relay, count: int) -> None:
    async with asyncio.timeout(120):
        while relay.confirmed < count:
            await asyncio.sleep(0.001)


class Writer:
    """Goes on appending, a little ahead of the relay, however long the broker is away: what is to be told, and looked
    at afterwards, does not grow with the time that it takes to come back."""

    AHEAD = 500

    def __init__(self, store: SqliteEventStore, relay: Relay) -> None:
        self._store = store
        self._relay = relay
        self._enough = False
        self.written = self.last = 0

    async def run(self) -> None:
        for n in itertools.count():
            while self.written > self._relay.confirmed + self.AHEAD and not self._enough:
                await asyncio.sleep(0.01)
            if self._enough:
                return
            self.last = await append(self._store, n % STREAMS, 3)
            self.written += 3
            await asyncio.sleep(0.004)

    async def stop(self, running: asyncio.Task[None]) -> None:
        """An append that is cancelled may be stored all the same, and would not be counted."""
        self._enough = True
        await running


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.full)])
async def test_kills_of_the_broker_lose_nothing_and_mix_nothing_up(
    mq: RabbitMq, store: SqliteEventStore, kills: int
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    relay = relay_of(store, url)
    writer = Writer(store, relay)
    async with running(relay):
        writing = asyncio.create_task(writer.run())
        try:
            for _ in range(kills):
                await until_confirmed(relay, relay.confirmed + 50)
                mq.kill()
                mq.start()
                await mq.until_ready()
        finally:
            await writer.stop(writing)
        await until_told(relay, writer.last)
    assert relay.tries > kills
    messages = once(await told(url, "listener"))
    assert len(messages) == writer.written
    for name, found in positions(messages).items():
        assert found == list(range(len(found))), name


async def test_a_broker_that_is_not_there_is_waited_for_and_told_all(
    mq: RabbitMq, store: SqliteEventStore
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    mq.kill()
    relay = relay_of(store, url)
    last = await append(store, 0, 10)
    async with running(relay):
        await until(lambda: "111" in (relay._broker.trouble or ""))
        assert relay.leads and relay.confirmed == 0
        mq.start()
        await mq.until_ready()
        await until_told(relay, last)
        assert relay._broker.trouble is None
    assert relay._broker.connections == {}
    assert positions(await told(url, "listener")) == {"video-0": list(range(10))}


async def test_the_next_leader_goes_on_and_a_quiet_relay_tells_nothing_twice(
    mq: RabbitMq, store: SqliteEventStore
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    first_leads, second_leads = Leads(leads=True), Leads(leads=False)
    first, second = relay_of(store, url, first_leads), relay_of(store, url, second_leads)
    async with running(first), running(second):
        await until_told(first, await append(store, 1, 20))
        first_leads.become(leads=False)
        last = await append(store, 1, 5)
        await until(lambda: not first.leads)
        second_leads.become(leads=True)
        await until_told(second, last)
        assert (first.confirmed, second.confirmed) == (20, 5)
    async with running(relay_of(store, url)) as again:
        await asyncio.sleep(0)
        assert not again.done()
    assert positions(await told(url, "listener")) == {"video-1": list(range(25))}


async def test_a_leader_that_dies_leaves_nothing_untold(mq: RabbitMq, store: SqliteEventStore) -> None:
    """Its checkpoint was never written: what it told is told again, with the same ids, in order."""
    url = mq.virtual_host()
    await bind(url, "listener")

    class Forgetful(StreamCheckpoints):
        async def save(self, name: str, commit_position: int) -> None:
            await asyncio.sleep(0)

    last = await append(store, 2, 600)
    for count in (1, 100, 230):  # each dies with messages on their way
        dying = relay_of(store, url)
        dying._checkpoints = Forgetful(store)
        async with running(dying):
            await until_confirmed(dying, count)
    heir = relay_of(store, url)
    async with running(heir):
        await until_told(heir, last)
    messages = await told(url, "listener")
    assert len(messages) > 900
    assert positions(once(messages)) == {"video-2": list(range(600))}


async def test_what_is_hidden_is_not_told_and_what_cannot_be_read_stops_nothing(
    mq: RabbitMq, store: SqliteEventStore
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener", ["video.VideoSubmitted", "video.SegmentCompleted"])
    submitted = VideoSubmitted(
        video_id="3",
        video_name="n",
        video_url="upload:n",
        source_kind="upload",
        location="/hidden/n",
        submitted_at=1.0,
    )
    encoded = CODEC.encode(submitted, metadata={"correlation_id": "3"})
    broken = CODEC.encode(submitted)
    broken = type(broken)(event_id=broken.event_id, event_type="VideoSubmitted", data=b"{no JSON")
    await store.append("video-3", [encoded, broken], expected_version=ANY)
    relay = relay_of(store, url)
    async with running(relay):
        await until_told(relay, await append(store, 3))
    assert relay.unreadable == 1
    found = await told(url, "listener")
    assert [message.routing_key for message in found] == ["video.VideoSubmitted", "video.SegmentCompleted"]
    assert b'"video_name":"n"' in found[0].body and b"hidden" not in found[0].body


async def test_no_more_than_the_window_is_on_its_way_to_a_broker_that_does_not_answer(
    mq: RabbitMq, store: SqliteEventStore
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    relay = relay_of(store, url)
    async with running(relay):
        await until_told(relay, await append(store, 0))
        mq.signal(signal.SIGSTOP)
        try:
            last = await append(store, 0, 3 * IN_FLIGHT)
            await until(lambda: relay.in_flight == IN_FLIGHT)
            assert relay.confirmed == 1
        finally:
            mq.signal(signal.SIGCONT)
        await until_told(relay, last)
    assert positions(once(await told(url, "listener"))) == {"video-0": list(range(1 + 3 * IN_FLIGHT))}


async def test_what_the_broker_refuses_is_told_again_until_it_takes_it(
    mq: RabbitMq, store: SqliteEventStore
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    async with channel_to(url) as channel:
        full = await channel.declare_queue(
            "full", durable=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"}
        )
        await full.bind(EVENTS_EXCHANGE, "#")
        relay = relay_of(store, url)
        async with running(relay):
            last = await append(store, 0, 10)
            await until(lambda: relay.tries > 1)
            assert relay.confirmed < 10
            await full.delete(if_unused=False, if_empty=False)
            await until_told(relay, last)
    assert positions(once(await told(url, "listener"))) == {"video-0": list(range(10))}


async def test_an_exchange_that_is_deleted_is_made_again(mq: RabbitMq, store: SqliteEventStore) -> None:
    url = mq.virtual_host()
    relay = relay_of(store, url)
    async with running(relay):
        await until_told(relay, await append(store, 0))
        async with channel_to(url) as channel:
            await channel.exchange_delete(EVENTS_EXCHANGE)
        await until_told(relay, await append(store, 0))
        assert relay.tries == 2
        await bind(url, "listener")
        await until_told(relay, await append(store, 0))
    assert positions(await told(url, "listener")) == {"video-0": [2]}


async def test_an_event_that_needs_many_frames_arrives_whole(mq: RabbitMq, store: SqliteEventStore) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    name = "long " * 80_000  # a frame of this broker holds 131,072 bytes
    submitted = VideoSubmitted(
        video_id="5",
        video_name=name,
        video_url="upload:n",
        source_kind="upload",
        location="/hidden/n",
        submitted_at=1.0,
    )
    await store.append("video-5", [CODEC.encode(submitted)], expected_version=ANY)
    relay = relay_of(store, url)
    async with running(relay):
        await until_told(relay, await append(store, 5))
    first, second = await told(url, "listener")
    assert msgspec.json.decode(first.body)["data"]["video_name"] == name
    assert second.routing_key == "video.SegmentCompleted"


async def test_the_checkpoint_follows_what_was_confirmed(mq: RabbitMq, store: SqliteEventStore) -> None:
    url = mq.virtual_host()
    relay = relay_of(store, url)
    last = await append(store, 4, 7)
    async with running(relay):
        await until_told(relay, last)
    saved = await StreamCheckpoints(store).load("relay")
    assert saved is not None and saved >= last
    again = relay_of(store, url)
    await bind(url, "late")
    async with running(again):
        await until_told(again, await append(store, 4))
    assert again.confirmed == 1
    assert positions(await told(url, "late")) == {"video-4": [7]}


async def test_events_are_persistent_and_say_what_they_are(mq: RabbitMq, store: SqliteEventStore) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    relay = relay_of(store, url)
    async with running(relay):
        await until_told(relay, await append(store, 0))
    async with channel_to(url) as channel:
        message = await (await channel.get_queue("listener")).get()
        assert message is not None
        await message.ack()
    [recorded] = await store.read_stream("video-0")
    assert message.message_id == str(recorded.event_id)
    assert message.type == message.routing_key == "video.SegmentCompleted"
    assert message.content_type == "application/cloudevents+json"
    assert message.delivery_mode == 2
    assert message.correlation_id == "0"
    assert message.app_id == "video-analysis"
    assert message.timestamp is not None and message.timestamp.timestamp() == int(recorded.recorded_at)
    assert message.headers == {
        "stream_name": "video-0",
        "stream_position": 0,
        "commit_position": recorded.commit_position,
        "schema_version": 1,
        "correlation_id": "0",
    }
