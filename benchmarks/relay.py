"""Events told to the real RabbitMQ with confirmations, beside a bare aio-pika loop in the same run; what six kills of
the broker cost while events flow.

python -m benchmarks.relay      needs rabbitmq-server (Debian)
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import aio_pika
import msgspec
import uvloop

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.application.leadership import SoleLeadership
from monolith.domain.events import DOMAIN_EVENTS, SegmentCompleted
from monolith.messaging.connection import MessageBroker
from monolith.messaging.names import EVENTS_EXCHANGE
from monolith.messaging.pipeline import IN_FLIGHT
from monolith.messaging.relay import Relay
from monolith.messaging.schemas import EventMessages
from tests.peers.rabbitmq import RabbitMq
from tests.peers.subscriber import bind, once, positions, told

EVENTS: Final = 12_500
"""In each turn."""
TURNS: Final = 2
STREAMS: Final = 7
KILLS: Final = 6
_CODEC: Final = EventCodec(DOMAIN_EVENTS)


async def run() -> dict[str, float]:
    """See `_measured`; on uvloop, as the program."""
    for name in ("aiormq", "aio_pika", "asyncio", "monolith.messaging.connection"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they tell all about each kill
    return await asyncio.to_thread(uvloop.run, _measured())


async def _measured() -> dict[str, float]:
    """`…_per_s`: messages a second; `…cpu_us`: processor time for each, here (threads, too) and in the broker;
    `lost` and `disordered`: events, after the receiver dropped repeats."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = RabbitMq(folder / "rabbitmq")
        broker.start()
        try:
            await broker.until_ready()
            return {**await _rates(broker, folder), **await _killed(broker, folder)}
        finally:
            broker.close()


class Cost(msgspec.Struct, frozen=True):
    """Seconds of so many messages."""

    wall: float
    here: float
    broker: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.here + other.here, self.broker + other.broker)


async def _rates(broker: RabbitMq, folder: Path) -> dict[str, float]:
    """In turns, so that both have their share of what else the machine does."""
    relayed = bare = Cost(0.0, 0.0, 0.0)
    for turn in range(TURNS):
        relayed += await _relayed(broker, folder / f"rate-{turn}.db")
        bare += await _bare(broker)
    count = TURNS * EVENTS
    return {
        "confirmed_per_s": count / relayed.wall,
        "bare_per_s": count / bare.wall,
        "to_bare": bare.wall / relayed.wall,
        "cpu_us": relayed.here / count * 1e6,
        "bare_cpu_us": bare.here / count * 1e6,
        "broker_cpu_us": relayed.broker / count * 1e6,
        "bare_broker_cpu_us": bare.broker / count * 1e6,
    }


async def _timed(broker: RabbitMq, work: Awaitable[None]) -> Cost:
    wall, here, there = time.perf_counter(), time.process_time(), broker.cpu_seconds()
    await work
    return Cost(time.perf_counter() - wall, time.process_time() - here, broker.cpu_seconds() - there)


async def _relayed(broker: RabbitMq, path: Path) -> Cost:
    url = broker.virtual_host()
    await bind(url, "listener")
    store = await SqliteEventStore.open(path)
    try:
        last = await _append(store, EVENTS)
        return await _timed(broker, _until_told(_relay(store, url), last))
    finally:
        await store.close()


async def _bare(broker: RabbitMq) -> Cost:
    """The same number of messages of the same size, as many in flight, to a queue of the same kind."""
    url = broker.virtual_host()
    await bind(url, "listener")
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    exchange = await channel.get_exchange(EVENTS_EXCHANGE)
    room, body = asyncio.Semaphore(IN_FLIGHT), bytes(600)

    async def publish(number: int) -> None:
        message = aio_pika.Message(body, message_id=str(number), delivery_mode=2)
        await exchange.publish(message, "video.SegmentCompleted", mandatory=False)
        room.release()

    async def publish_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(EVENTS):
                await room.acquire()
                tasks.create_task(publish(number))

    cost = await _timed(broker, publish_all())
    await connection.close()
    return cost


async def _killed(broker: RabbitMq, folder: Path) -> dict[str, float]:
    url = broker.virtual_host()
    await bind(url, "listener")
    store = await SqliteEventStore.open(folder / "killed.db")
    relay = _relay(store, url)
    written = last = 0
    try:
        telling = asyncio.create_task(relay.run())
        for _ in range(KILLS):
            confirmed = relay.confirmed
            last = await _append(store, 2000)
            written += 2000
            while relay.confirmed < confirmed + 500:
                await asyncio.sleep(0.001)
            broker.kill()
            broker.start()
            await broker.until_ready()
        while (relay.position or 0) < last:
            await asyncio.sleep(0.01)
        telling.cancel()
        await asyncio.wait([telling])
    finally:
        await store.close()
    messages = await told(url, "listener")
    seen = once(messages)
    disordered = sum(one != sorted(one) for one in positions(seen).values())
    return {"lost": written - len(seen), "disordered": disordered, "repeated": len(messages) - len(seen)}


def _relay(store: SqliteEventStore, url: str) -> Relay:
    messages = EventMessages(_CODEC, f"urn:uuid:{store.identity}")
    return Relay(
        store,
        messages,
        StreamCheckpoints(store),
        SoleLeadership(),
        MessageBroker(url),
        lambda: store.last_position,
    )


async def _append(store: SqliteEventStore, count: int) -> int:
    position = 0
    for start in range(0, count, 500):
        events = [
            _CODEC.encode(
                SegmentCompleted(video_id="v", run_id="r", segment=n, frames=1, dropped=0, last_frame=1),
                metadata={"correlation_id": "v"},
            )
            for n in range(start, min(start + 500, count))
        ]
        stream = f"video-{start // 500 % STREAMS}"
        position = (await store.append(stream, events, expected_version=ANY)).commit_position
    return position


async def _until_told(relay: Relay, position: int) -> None:
    telling = asyncio.create_task(relay.run())
    while (relay.position or 0) < position:
        await asyncio.sleep(0.005)
    telling.cancel()
    await asyncio.wait([telling])


if __name__ == "__main__":
    for name, value in asyncio.run(run()).items():
        print(f"{name:<20} {value:12,.3f}")
