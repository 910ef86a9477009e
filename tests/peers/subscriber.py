"""Another system that listens to the program's messages: a queue of its own, bound to the exchange of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from monolith.messaging.names import EVENTS_EXCHANGE


class Told(msgspec.Struct, frozen=True):
    """An event as it was told."""

    message_id: str
    routing_key: str
    stream_name: str
    stream_position: int
    body: bytes


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def bind(url: str, queue: str, keys: Iterable[str] = ("#",)) -> None:
    """A durable queue that gets what is told from now on. (A quorum queue of this RabbitMQ may find no leader again
    when the broker is killed within seconds of its making.)"""
    async with channel_to(url) as channel:
        exchange = await channel.declare_exchange(EVENTS_EXCHANGE, "topic", durable=True)
        bound = await channel.declare_queue(queue, durable=True)
        for key in keys:
            await bound.bind(exchange, key)


async def told(url: str, queue: str) -> list[Told]:
    """All that lies in the queue, as it came; nothing stays there. Raises TimeoutError."""
    return await asyncio.to_thread(
        asyncio.run, _all_of(url, queue), debug=False
    )  # thousands: debugging is too slow


async def _all_of(url: str, queue: str) -> list[Told]:
    async with channel_to(url) as channel:
        bound = await channel.get_queue(queue)
        count = bound.declaration_result.message_count or 0
        found: list[Told] = []
        enough = asyncio.Event()

        async def take(message: AbstractIncomingMessage) -> None:
            found.append(_told(message))
            if len(found) >= count:
                enough.set()

        if count:
            tag = await bound.consume(
                take, no_ack=True
            )  # asking for one after the other takes ten times as long
            async with asyncio.timeout(60):
                await enough.wait()
            await bound.cancel(tag)
        return found


def once(messages: Iterable[Told]) -> list[Told]:
    """As a receiver sees them that drops the ids it has seen."""
    first: dict[str, Told] = {}
    for message in messages:
        first.setdefault(message.message_id, message)
    return list(first.values())


def positions(messages: Iterable[Told]) -> dict[str, list[int]]:
    """Stream → positions of its events, in the order in which they came."""
    found: dict[str, list[int]] = {}
    for message in messages:
        found.setdefault(message.stream_name, []).append(message.stream_position)
    return found


async def next_of(queue: aio_pika.abc.AbstractQueue, timeout: float = 30) -> AbstractIncomingMessage:
    """The next message of a queue, acknowledged. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while (message := await queue.get(fail=False)) is None:
            await asyncio.sleep(0.02)
        await message.ack()
        return message


def _told(message: AbstractIncomingMessage) -> Told:
    assert message.message_id is not None and message.routing_key is not None
    name, position = message.headers["stream_name"], message.headers["stream_position"]
    assert isinstance(name, str) and isinstance(position, int)
    return Told(message.message_id, message.routing_key, name, position, message.body)
