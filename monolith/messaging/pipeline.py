"""Publishes in order without waiting for each confirmation.

What a connection has sent is always a beginning of what it was given: as soon as one message fails, none behind it is
sent. Otherwise a later one might reach the broker without it, and both again in order, too late.
"""

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
        self._unconfirmed: dict[asyncio.Task[None], None] = {}
        """In the order in which they are sent."""
        self._failure: Exception | None = None

    @property
    def waiting(self) -> int:
        """Messages that are sent, or about to be, and not confirmed."""
        return len(self._unconfirmed)

    async def send(self, message: Outgoing, commit_position: int) -> None:
        """Send it behind those before it; waits for room alone. Raises what has failed before."""
        if self._failure is not None:
            raise self._failure
        task = asyncio.create_task(self._publish_or_stop(message))
        self._unconfirmed[task] = None
        task.add_done_callback(self._unconfirmed.pop)
        await self._sent.put((task, commit_position))

    async def confirm(self) -> None:
        """Take the confirmations, in order, until cancelled. Raises `BROKER_ERRORS` for the first that fails."""
        while True:
            task, commit_position = await self._sent.get()
            await asyncio.wait([task])  # and not the task itself: who is cancelled here must not cancel it
            if task.cancelled():
                raise self._failure or BrokerAwayError("a message was given up")
            self._confirmed(commit_position)
            self._sent.task_done()

    async def until_confirmed(self) -> None:
        """Until all that was sent is confirmed."""
        await self._sent.join()

    def abandon(self) -> None:
        """Nobody waits for the confirmations any more, and nothing more is sent."""
        self._failure = self._failure or BrokerAwayError("the connection was given up")
        for task in reversed(list(self._unconfirmed)):
            task.cancel()

    async def _publish_or_stop(self, message: Outgoing) -> None:
        """Ends as cancelled where it fails: `_failure` says why."""
        try:
            await self._publish(message)
        except Exception as error:
            self._failure = self._failure or error
            self.abandon()
            raise asyncio.CancelledError from error

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
