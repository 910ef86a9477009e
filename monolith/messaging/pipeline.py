"""Publishes in order without waiting for each confirmation.

What a connection has sent is always a beginning of what it was given: as soon as one message fails, nothing more is
sent. Otherwise a later one might reach the broker without it, and both again in order, too late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from monolith.application.tracing import TRACEPARENT, NoTracing, Tracing
from monolith.messaging.event_channel import Confirmation, EventChannel
from monolith.messaging.rabbit import BrokerAwayError
from monolith.messaging.schemas import Outgoing

IN_FLIGHT: Final = 100
"""Messages that may be on their way at once, without a confirmation."""
BATCH: Final = 25
"""Messages that are sent in one piece, at most."""
_CONFIRM_SECONDS: Final = 30.0


class Pipeline:
    """One channel's. `confirmed` is called with each message's commit position, in order, once it and all before it are
    the broker's; nothing is called after the first failure. For one sender, beside one task that runs `confirm`."""

    def __init__(
        self, channel: EventChannel, confirmed: Callable[[int], None], tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or NoTracing()
        self._channel = channel
        self._confirmed = confirmed
        self._unconfirmed: deque[tuple[Confirmation, int]] = deque()
        """In the order in which they were sent."""
        self._sent = asyncio.Event()
        self._taken_off = asyncio.Event()
        self._failure: Exception | None = None
        self._traces: set[asyncio.Task[None]] = set()
        channel.when_closed(self.abandon)

    @property
    def waiting(self) -> int:
        """Messages that are sent and not confirmed."""
        return len(self._unconfirmed)

    async def send(self, messages: Sequence[tuple[Outgoing, int]]) -> None:
        """Send up to `BATCH` messages, each with its commit position, behind those before them; waits for room alone.
        Raises what has failed before."""
        await self._until_at_most(IN_FLIGHT - len(messages))
        published = [message for message, _ in messages]
        confirmations = await self._channel.publish(published)
        self._unconfirmed.extend(zip(confirmations, (position for _, position in messages), strict=True))
        if self._failure is not None:
            self.abandon(self._failure)
            raise self._failure
        self._sent.set()
        self._trace(published, confirmations)

    async def confirm(self) -> None:
        """Take the confirmations, in order, until cancelled. Raises `BROKER_ERRORS` for the first that fails."""
        while True:
            while not self._unconfirmed:
                self._sent.clear()
                await self._sent.wait()
                self._check()
            confirmation, commit_position = self._unconfirmed[0]
            await self._until_done(confirmation)
            self._check()
            confirmation.result()
            self._unconfirmed.popleft()
            self._confirmed(commit_position)
            self._taken_off.set()

    async def until_confirmed(self) -> None:
        """Until all that was sent is confirmed. Raises what has failed."""
        await self._until_at_most(0)

    async def _until_done(self, confirmation: Confirmation) -> None:
        """Raises TimeoutError. A broker that is short of memory or disk says that it does not listen: that is waited
        for, and not made worse by sending all of it again."""
        while not confirmation.done():
            await asyncio.wait([confirmation], timeout=_CONFIRM_SECONDS)
            if not confirmation.done() and await self._channel.listens():
                raise TimeoutError("a message was not confirmed in time")

    def abandon(self, reason: Exception | None = None) -> None:
        """Nobody waits for the confirmations any more, and nothing more is sent."""
        self._failure = self._failure or reason or BrokerAwayError("the connection was given up")
        for confirmation, _ in self._unconfirmed:
            if not confirmation.cancel() and not confirmation.cancelled():
                confirmation.exception()  # seen: the first failure says enough
        self._sent.set()
        self._taken_off.set()

    async def _until_at_most(self, count: int) -> None:
        self._check()
        while len(self._unconfirmed) > count:
            self._taken_off.clear()
            await self._taken_off.wait()
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _trace(self, messages: Sequence[Outgoing], confirmations: Sequence[Confirmation]) -> None:
        traced = [message for message in messages if TRACEPARENT in message.headers]
        if traced:
            task = asyncio.create_task(self._spans(traced, confirmations), name="publishing")
            self._traces.add(task)
            task.add_done_callback(self._traces.discard)

    async def _spans(self, messages: Sequence[Outgoing], confirmations: Sequence[Confirmation]) -> None:
        """One for each message, until all that was sent with it is confirmed, or has failed."""
        with contextlib.suppress(BrokerAwayError), contextlib.ExitStack() as spans:
            for message in messages:
                traceparent, kind = str(message.headers[TRACEPARENT]), message.routing_key
                spans.enter_context(self._tracing.continued(traceparent, "publish", {"type": kind}))
            await asyncio.wait(confirmations)
            if any(one.cancelled() or one.exception() for one in confirmations):
                raise BrokerAwayError("not all messages were confirmed")
