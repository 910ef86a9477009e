"""Connections to the real RabbitMQ: lost, refused, given back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue

from monolith.messaging.connection import MessageBroker
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.peers.subscriber import channel_to

JOBS = RabbitQueue("jobs.v1", durable=True)
CUT = '[rabbit_networking:close_connection(P, "test") || P <- rabbit_networking:connections()].'


@pytest.fixture(scope="module")
def mq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@asynccontextmanager
async def kept(
    broker: MessageBroker, work: Callable[[RabbitBroker], object]
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(broker.keep("jobs", work, consumes=JOBS.name))  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is not None


@contextmanager
def stopped(mq: RabbitMq) -> Iterator[None]:
    """The broker does nothing meanwhile."""
    mq.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        mq.signal(signal.SIGCONT)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Consumer:
    """Takes jobs, and acknowledges those that it may."""

    def __init__(self) -> None:
        self.connected = 0
        self.cancelled = 0
        self.taken: list[tuple[bytes, bool]] = []
        self.may_acknowledge = asyncio.Event()

    async def work(self, rabbit: RabbitBroker) -> None:
        @rabbit.subscriber(JOBS, channel=Channel(prefetch_count=4), ack_policy=AckPolicy.MANUAL)
        async def take(message: RabbitMessage) -> None:
            self.taken.append((message.body, bool(message.raw_message.redelivered)))
            await self.may_acknowledge.wait()
            await message.ack()

        await rabbit.start()
        self.connected += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


async def publish(url: str, body: bytes) -> None:
    broker = MessageBroker(url)

    async def send(rabbit: RabbitBroker) -> None:
        await rabbit.publish(body, queue=JOBS, persist=True)

    await broker.keep("publisher", send)
    assert broker.connections == {}


async def test_a_lost_connection_is_made_anew_and_what_was_not_acknowledged_comes_again(mq: RabbitMq) -> None:
    url = mq.virtual_host()
    broker, consumer = MessageBroker(url), Consumer()
    async with kept(broker, consumer.work):
        await until(lambda: consumer.connected == 1)
        assert broker.trouble is None and broker.connections == {"jobs": True}
        await publish(url, b'{"n": 1}')
        await until(lambda: len(consumer.taken) == 1)
        mq.ask(CUT)
        await until(lambda: len(consumer.taken) == 2)
        assert consumer.taken == [(b'{"n": 1}', False), (b'{"n": 1}', True)]
        assert (consumer.connected, consumer.cancelled, broker.lost) == (2, 1, 1)
        consumer.may_acknowledge.set()
        async with channel_to(url) as channel:
            async with asyncio.timeout(60):
                while (await channel.declare_queue(JOBS.name, passive=True)).declaration_result.message_count:
                    await asyncio.sleep(0.05)
    assert broker.connections == {}


async def test_a_consumer_whose_queue_is_deleted_has_one_again(
    mq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.messaging.connection._LOOK_SECONDS", 0.2)
    url = mq.virtual_host()
    consumer = Consumer()
    consumer.may_acknowledge.set()
    async with kept(MessageBroker(url), consumer.work):
        await until(lambda: consumer.connected == 1)
        async with channel_to(url) as channel:
            await channel.queue_delete(JOBS.name)
        await until(lambda: consumer.connected >= 2)
        await publish(url, b"again")
        await until(lambda: consumer.taken == [(b"again", False)])


async def test_a_wrong_password_is_said_without_it_and_tried_again(mq: RabbitMq) -> None:
    broker = MessageBroker(f"amqp://guest:wrong-word@127.0.0.1:{mq.port}/")
    consumer = Consumer()
    async with kept(broker, consumer.work) as task:
        await until(lambda: "ACCESS_REFUSED" in (broker.trouble or ""))
        assert "wrong-word" not in (broker.trouble or "")
        assert broker.connections == {"jobs": False}
        assert not task.done()
    assert consumer.connected == 0


async def test_what_the_work_raises_is_raised_and_the_connection_closed(mq: RabbitMq) -> None:
    broker = MessageBroker(mq.virtual_host())

    async def fail(rabbit: RabbitBroker) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broker.keep("failing", fail)
    assert broker.connections == {}


MEMORY = "vm_memory_monitor:set_vm_memory_high_watermark({absolute, %d})."


async def test_a_broker_without_memory_is_told_of_and_its_connection_kept(
    mq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.messaging.connection._LOOK_SECONDS", 0.2)
    monkeypatch.setattr("monolith.messaging.connection._BLOCK_SECONDS", 0.1)
    broker, consumer = MessageBroker(mq.virtual_host()), Consumer()
    sent = asyncio.Event()

    async def work(rabbit: RabbitBroker) -> None:
        consuming = asyncio.create_task(consumer.work(rabbit))
        await until(lambda: consumer.connected == 1)
        await asyncio.to_thread(mq.ask, MEMORY % 1000)
        try:
            await rabbit.publish(b"job", queue=JOBS, persist=True, timeout=1.0)
            sent.set()
            await consuming
        finally:
            consuming.cancel()
            await asyncio.wait([consuming])

    async with kept(broker, work):
        await until(lambda: broker.lasting_trouble(3.0) is not None)  # longer than the publish may take
        assert "takes no messages now (jobs): it is short of memory" in (broker.trouble or "")
        assert not sent.is_set() and broker.connections == {"jobs": True}
        await asyncio.to_thread(mq.ask, MEMORY % 1_000_000_000)
        await until(sent.is_set)
        await until(lambda: broker.trouble is None)
        await until(lambda: consumer.taken == [(b"job", False)])
        assert (consumer.connected, broker.lost) == (1, 0)


async def test_a_publish_that_is_not_confirmed_ends_at_its_deadline(mq: RabbitMq) -> None:
    url, waited = mq.virtual_host(), asyncio.Event()
    broker = MessageBroker(url)

    async def work(rabbit: RabbitBroker) -> None:
        await rabbit.declare_queue(JOBS)
        with stopped(mq), pytest.raises(TimeoutError):
            await rabbit.publish(b"job", queue=JOBS, timeout=0.2)
        waited.set()

    await broker.keep("jobs", work)
    assert waited.is_set()


async def test_a_virtual_host_that_is_not_there_is_told_in_words(mq: RabbitMq) -> None:
    broker, consumer = MessageBroker(f"{mq.url}nowhere"), Consumer()
    async with kept(broker, consumer.work):
        await until(lambda: "there is none of that name" in (broker.trouble or ""))
        assert broker.lasting_trouble(3600.0) is None
        await until(lambda: broker.lasting_trouble(0.1) is not None)


async def test_work_that_a_driver_lets_forget_its_cancellation_ends_all_the_same(
    mq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.wait_for` of Python 3.11 does when the answer comes together with it."""
    monkeypatch.setattr("monolith.messaging.connection._INSIST_SECONDS", 0.05)
    broker, began = MessageBroker(mq.virtual_host()), asyncio.Event()

    async def forget(rabbit: RabbitBroker) -> None:
        began.set()
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with kept(broker, forget) as task:
        await began.wait()
    assert task.cancelled() and broker.connections == {}


async def test_work_with_a_request_on_its_way_ends_when_it_is_cancelled(
    mq: RabbitMq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.messaging.connection._INSIST_SECONDS", 0.05)
    url = mq.virtual_host()

    async def ask(rabbit: RabbitBroker) -> None:
        connection = await rabbit.connect()
        async with connection.channel() as channel:
            while True:
                await channel.declare_queue(JOBS.name, durable=True, timeout=10.0)
                asked.set()

    for delay in range(10):
        asked = asyncio.Event()
        async with kept(MessageBroker(url), ask) as task:
            await asked.wait()
            await asyncio.sleep(delay / 5_000)
        assert task.cancelled()
