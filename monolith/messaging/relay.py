"""Tells RabbitMQ every domain event, in commit order, from where the last relay stopped.

Rules:
- One copy relays at a time: the one that leads. Its checkpoint lies in the event store, so that the next goes on there.
- An event counts as told when the broker has confirmed it and all before it. The checkpoint follows at most
  `SAVE_SECONDS` later; what was confirmed since is told again after a crash, with the same message id.
- Everything goes through one channel in order. When anything goes wrong, all that is not confirmed is told again, in
  order, on a new connection: who drops the ids that it has seen gets each stream in order, without a gap.
  (A classic queue whose broker is killed may keep a small message, and not a large one before it; a quorum queue not.)
- An event nobody has bound a queue for is confirmed, too, and gone: the exchange is no archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from faststream.rabbit import RabbitBroker

from eventsourcing.checkpoints import Checkpoints
from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import EventStore
from monolith.application.leadership import Leadership
from monolith.application.tracing import NoTracing, Tracing
from monolith.domain.events import STREAM_PREFIXES
from monolith.messaging.connection import MessageBroker
from monolith.messaging.event_channel import open_event_channel
from monolith.messaging.pipeline import BATCH, Pipeline
from monolith.messaging.schemas import EventMessages, Outgoing
from monolith.messaging.topology import EVENTS
from monolith.projection_lag import ProjectionLag

NAME: Final = "relay"
SAVE_SECONDS: Final = 1.0
_IDLE_SAVE_SECONDS: Final = 600.0
"""As often the checkpoint moves over what is not relayed, so that a restart need not look at it again."""
_PAUSE_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


class Relay:
    """Run it with `run`. `newest`: commit position of the newest event of the store."""

    def __init__(
        self,
        store: EventStore,
        messages: EventMessages,
        checkpoints: Checkpoints,
        leadership: Leadership,
        broker: MessageBroker,
        newest: Callable[[], int],
        *,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing or NoTracing()
        self._store = store
        self._messages = messages
        self._checkpoints = checkpoints
        self._leadership = leadership
        self._broker = broker
        self._pipeline: Pipeline | None = None
        self._lag = ProjectionLag(newest, lambda: self.position or 0)
        self.position: int | None = None
        """Everything up to here was confirmed, or is not relayed; None where this copy does not relay."""
        self.confirmed = 0
        self.tries = 0
        """Connections on which it was begun to relay."""
        self.unreadable = 0
        """Events that could not be told, since their bytes do not fit their type."""

    @property
    def in_flight(self) -> int:
        """Messages that are sent and not confirmed."""
        return 0 if self._pipeline is None else self._pipeline.waiting

    @property
    def leads(self) -> bool:
        """Whether this copy relays."""
        return self.position is not None

    def lag_seconds(self) -> float:
        """For how long an event has waited to be told; 0 where another copy relays."""
        return self._lag.seconds() if self.leads else 0.0

    async def run(self) -> None:
        """Relay whenever this copy leads, until cancelled."""
        while True:
            await self._leadership.wait_for(True)
            try:
                await self._while_leading()
            except StoreUnavailableError as error:
                logger.warning("events cannot be read, nothing is relayed: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:
                logger.exception("the relay failed; it begins again at its checkpoint")
                await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                self.position = None

    async def _while_leading(self) -> None:
        """Raises StoreUnavailableError."""
        over = asyncio.create_task(self._leadership.wait_for(False))
        relaying = asyncio.create_task(self._relay(), name=NAME)
        try:
            await asyncio.wait([over, relaying], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            relaying.cancel()
            await asyncio.wait([over, relaying])
        if not relaying.cancelled():
            relaying.result()

    async def _relay(self) -> None:
        self.position = await self._checkpoints.load(NAME) or 0
        await self._broker.keep(NAME, self._tell_all)

    async def _tell_all(self, rabbit: RabbitBroker) -> None:
        """Everything behind the last confirmed position, until the connection or the store fails."""
        self.tries += 1
        await rabbit.declare_exchange(EVENTS)
        channel = await open_event_channel(rabbit, EVENTS.name)
        pipeline = self._pipeline = Pipeline(channel, self._note, self._tracing)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._save_now_and_then())
                tasks.create_task(pipeline.confirm())
                tasks.create_task(self._read(pipeline))
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        finally:
            pipeline.abandon()
            self._pipeline = None
            await self._save_at_the_end()

    async def _read(self, pipeline: Pipeline) -> None:
        async with self._store.subscribe(after=self.position or None, prefixes=STREAM_PREFIXES) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    await pipeline.until_confirmed()
                    self.position = max(self.position or 0, item.commit_position or 0)
                    continue
                for start in range(0, len(item), BATCH):
                    if messages := self._messages_of(item[start : start + BATCH]):
                        await pipeline.send(messages)
        raise StoreUnavailableError("the event store was closed")

    def _messages_of(self, events: Sequence[RecordedEvent]) -> list[tuple[Outgoing, int]]:
        made = ((self._message(event), event.commit_position) for event in events)
        return [(message, position) for message, position in made if message is not None]

    def _message(self, event: RecordedEvent) -> Outgoing | None:
        try:
            return self._messages.message(event)
        except (EventStoreError, ValueError):
            self.unreadable += 1
            logger.exception("an event cannot be told: %s@%d", event.stream_name, event.stream_position)
            return None

    def _note(self, commit_position: int) -> None:
        self.position = commit_position
        self.confirmed += 1

    async def _save_now_and_then(self) -> None:
        """When something was confirmed; over what is not relayed, more seldom: each save is an event itself."""
        confirmed, since = self.confirmed, 0.0
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            since += SAVE_SECONDS
            if self.position is not None and (self.confirmed != confirmed or since >= _IDLE_SAVE_SECONDS):
                confirmed, since = self.confirmed, 0.0
                await self._checkpoints.save(NAME, self.position)

    async def _save_at_the_end(self) -> None:
        with contextlib.suppress(EventStoreError, TimeoutError):
            async with asyncio.timeout(SAVE_SECONDS):
                if self.position:
                    await self._checkpoints.save(NAME, self.position)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what failed at once. The store's failure says more than what it brought down."""
    found = failures.exceptions
    return next((error for error in found if isinstance(error, EventStoreError)), found[0])
