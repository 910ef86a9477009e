"""A channel of RabbitMQ on which events are published, many in one write.

FastStream's `publish`, and aio-pika's below it, take one message at a time: a task, a lock, a deadline and a drained
socket each, which cost more than encoding and confirming it together. So this goes past both and hands the frames of
many messages to the driver below them (aiormq) in one piece, with a plain future for each confirmation, put where the
driver looks for its own. The connection, and what is declared on it, are FastStream's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias

from aiormq import Channel, ChannelInvalidStateError
from aiormq.abc import ChannelFrame, ConfirmationFrameType
from faststream.rabbit import RabbitBroker
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from monolith.messaging.rabbit import listens
from monolith.messaging.schemas import CONTENT_TYPE, Outgoing

Confirmation: TypeAlias = asyncio.Future[ConfirmationFrameType]
"""Done with the broker's Ack; fails with DeliveryError where it is a Nack."""

_PERSISTENT: Final = 2


class EventChannel:
    """For one sender. Make it with `open_event_channel`; it is closed with its connection."""

    def __init__(self, rabbit: RabbitBroker, channel: Channel, exchange: str) -> None:
        self._rabbit = rabbit
        self._channel = channel
        self._exchange = exchange
        self._heads: dict[str, bytes] = {}
        """Routing key → the frame that begins each message with it; there are as many as event types."""

    def when_closed(self, tell: Callable[[Exception], None]) -> None:
        """Call `tell` with the reason once nothing can be sent any more."""

        def closed(closing: asyncio.Future[None]) -> None:
            error = None if closing.cancelled() else closing.exception()
            tell(
                error if isinstance(error, Exception) else ChannelInvalidStateError("the channel was closed")
            )

        self._channel.closing.add_done_callback(closed)

    async def listens(self) -> bool:
        """Whether the broker hears this connection; it says so when it does not, being short of memory or disk."""
        return await listens(self._rabbit)

    async def publish(self, messages: Sequence[Outgoing]) -> list[Confirmation]:
        """Send them in order; returns when the socket has room for more. Where it is cancelled, some may be sent.

        Raises ChannelInvalidStateError when the channel is closed.
        """
        if self._channel.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        loop = asyncio.get_running_loop()
        payload = b"".join(part for message in messages for part in self._frames(message))
        confirmations = [self._expect(loop.create_future()) for _ in messages]
        written = loop.create_future()
        await self._channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=written))
        await written
        return confirmations

    def _expect(self, confirmation: Confirmation) -> Confirmation:
        self._channel.delivery_tag += 1
        self._channel.confirmations[self._channel.delivery_tag] = confirmation
        return confirmation

    def _frames(self, message: Outgoing) -> Iterator[bytes]:
        marshal = partial(frame.marshal, channel_id=self._channel.number)
        if (head := self._heads.get(message.routing_key)) is None:
            method = Basic.Publish(exchange=self._exchange, routing_key=message.routing_key)
            head = self._heads[message.routing_key] = marshal(method)
        yield head
        yield marshal(ContentHeader(body_size=len(message.body), properties=self._properties(message)))
        size = self._channel.max_content_size
        for start in range(0, len(message.body), size):
            yield marshal(ContentBody(message.body[start : start + size]))

    def _properties(self, message: Outgoing) -> Basic.Properties:
        return Basic.Properties(
            content_type=CONTENT_TYPE,
            headers=dict(message.headers),
            delivery_mode=_PERSISTENT,
            correlation_id=message.correlation_id or message.message_id,
            message_id=message.message_id,
            timestamp=datetime.fromtimestamp(message.recorded_at, UTC),
            message_type=message.routing_key,
            app_id=self._rabbit.config.app_id,
        )


async def open_event_channel(rabbit: RabbitBroker, exchange: str) -> EventChannel:
    """Raises `BROKER_ERRORS`."""
    connection = await rabbit.connect()
    if connection.transport is None:
        raise ChannelInvalidStateError("the connection was closed")
    channel = await connection.transport.connection.channel()
    assert isinstance(channel, Channel)
    return EventChannel(rabbit, channel, exchange)
