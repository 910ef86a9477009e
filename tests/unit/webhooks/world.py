"""Webhooks over an event store, with real HTTP to real receivers; only pauses are short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import EventStore
from eventsourcing.versions import ANY
from monolith.application.leadership import Leadership, SoleLeadership
from monolith.domain.events import DOMAIN_EVENTS, DomainEvent, RunCompleted, StopRequested, video_stream
from monolith.ingest.addresses import AddressPolicy
from monolith.messaging.schemas import EventMessages
from monolith.webhooks.delivery import DeliveryCounts, DeliveryKit
from monolith.webhooks.directory import WebhookDirectory, WebhookStreams
from monolith.webhooks.dispatcher import Dispatcher
from monolith.webhooks.payload import Payloads
from monolith.webhooks.retries import RetryPolicy
from monolith.webhooks.secrets import WebhookSecrets
from monolith.webhooks.sender import Sender
from monolith.webhooks.service import Webhooks
from tests.builders import VIDEO

CODEC = EventCodec(DOMAIN_EVENTS)
SOURCE = "urn:uuid:00000000-0000-7000-8000-000000000000"
QUICK = RetryPolicy(give_up_after=3600, first_pause=0.01, longest_pause=0.02)
IMPATIENT = RetryPolicy(give_up_after=0.001, first_pause=0.01, longest_pause=0.02, attempts=2)


def completed(video_id: str = VIDEO) -> RunCompleted:
    return RunCompleted(
        video_id=video_id,
        run_id=VIDEO,
        frames=1,
        dropped=0,
        greatest_frame=1,
        coverage=1.0,
        completed_at=1.0,
    )


def stop(number: int, video_id: str = VIDEO) -> StopRequested:
    """`number`: to tell one from another."""
    return StopRequested(video_id=video_id, requested_at=float(number))


class World:
    """One copy of the program, as far as webhooks go."""

    def __init__(
        self, store: EventStore, kit: DeliveryKit, secrets: WebhookSecrets, service: Webhooks
    ) -> None:
        self.store = store
        self.kit = kit
        self.secrets = secrets
        self.service = service

    async def happened(self, *events: DomainEvent) -> list[UUID]:
        """The ids of the events."""
        ids = []
        for event in events:
            new = CODEC.encode(event)
            await self.store.append(video_stream(event.video_id), [new], expected_version=ANY)
            ids.append(new.event_id)
        return ids

    @asynccontextmanager
    async def delivering(self, leadership: Leadership | None = None) -> AsyncIterator[Dispatcher]:
        dispatcher = Dispatcher(self.kit, self.secrets, leadership or SoleLeadership())
        task = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def until(self, condition: Callable[[], bool], timeout: float = 30) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world(
    folder: Path,
    store: EventStore | None = None,
    *,
    retries: RetryPolicy = QUICK,
    policy: AddressPolicy | None = None,
    timeout: float = 5,
    ahead: int = 1000,
) -> AsyncIterator[World]:
    """`folder`: that all copies see."""
    used = store or MemoryEventStore()
    policy = policy or AddressPolicy(loopback_only=True, forbids="events may not be sent there")
    streams, directory = WebhookStreams(used), WebhookDirectory(used)
    secrets, payloads = WebhookSecrets(folder), Payloads(EventMessages(CODEC, SOURCE), SOURCE)
    async with ProjectionRunner(used, directory) as seen, Sender(policy, timeout=timeout) as sender:
        await directory.wait_change(0)
        kit = DeliveryKit(
            used, streams, directory, seen, StreamCheckpoints(used), payloads, sender, retries, time.time,
            DeliveryCounts(), ahead=ahead,
        )  # fmt: skip
        service = Webhooks(used, streams, directory, seen, secrets, payloads, sender, policy, time.time)
        yield World(used, kit, secrets, service)
    if store is None:
        await used.close()
