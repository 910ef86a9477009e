"""Publishes in order without waiting for each confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from faststream.rabbit import RabbitBroker
from pamqp.commands import Basic

from monolith.application.tracing import TRACEPARENT, NoTracing, Tracing
from monolith.messaging.connection import BrokerAwayError
from monolith.messaging.schemas import CONTENT_TYPE, Outgoing
from monolith.messaging.topology import EVENTS

IN_FLIGHT: Final = 100
"""Messages that may be on their way at once, without a confirmation."""
_CONFIRM_SECONDS: Final = 30.0


class Pipeline:
    """One connection's. `confirmed` is called with each message's commit position, in order, once it and all before it
    are the broker's; nothing is called after the first failure. For one sender, beside one task that runs `confirm`."""

    def __init__(
        self, rabbit: RabbitBroker, confirmed: Callable[[int], None], tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or NoTracing()
        self._rabbit = rabbit
        self._confirmed = confirmed
        self._sent: asyncio.Queue[tuple[asyncio.Task[None], int]] = asyncio.Queue(IN_FLIGHT)
        self.waiting = 0
        """Messages that are sent and not confirmed."""

    async def send(self, message: Outgoing, commit_position: int) -> None:
        """Send it behind those before it; waits for room alone."""
        task = asyncio.create_task(self._publish(message))
        task.add_done_callback(_seen)
        self.waiting += 1
        await self._sent.put((task, commit_position))

    async def confirm(self) -> None:
        """Take the confirmations, in order, until cancelled. Raises `BROKER_ERRORS` for the first that fails."""
        while True:
            task, commit_position = await self._sent.get()
            try:
                await task
            finally:
                task.cancel()
            self.waiting -= 1
            self._confirmed(commit_position)
            self._sent.task_done()

    async def until_confirmed(self) -> None:
        """Until all that was sent is confirmed."""
        await self._sent.join()

    def abandon(self) -> None:
        """Nobody waits for the confirmations any more."""
        while not self._sent.empty():
            self._sent.get_nowait()[0].cancel()

    async def _publish(self, message: Outgoing) -> None:
        traceparent = message.headers.get(TRACEPARENT)
        if traceparent is None:
            return await self._publish_now(message)
        with self._tracing.continued(str(traceparent), "publish", {"type": message.routing_key}):
            await self._publish_now(message)

    async def _publish_now(self, message: Outgoing) -> None:
        # Tasks begin in the order in which they were made, and the driver's lock lets them through in that order.
        confirmation = await self._rabbit.publish(
            message.body,
            exchange=EVENTS,
            routing_key=message.routing_key,
            mandatory=False,  # nobody need listen
            persist=True,
            timeout=_CONFIRM_SECONDS,
            headers=dict(message.headers),
            content_type=CONTENT_TYPE,
            correlation_id=message.correlation_id or message.message_id,
            message_id=message.message_id,
            message_type=message.routing_key,
            timestamp=message.recorded_at,
        )
        if not isinstance(confirmation, Basic.Ack):
            raise BrokerAwayError(f"a message was not confirmed: {confirmation!r}")


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
