"""Wires webhooks: for the program, and for changing them without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import EventStore
from monolith.application.leadership import Leadership
from monolith.ingest.addresses import AddressPolicy
from monolith.messaging.schemas import EventMessages
from monolith.settings import Settings
from monolith.webhooks.delivery import DeliveryCounts, DeliveryKit
from monolith.webhooks.directory import WebhookDirectory, WebhookStreams
from monolith.webhooks.dispatcher import Dispatcher
from monolith.webhooks.payload import Payloads
from monolith.webhooks.retries import RetryPolicy
from monolith.webhooks.secrets import WebhookSecrets
from monolith.webhooks.sender import Sender
from monolith.webhooks.service import Webhooks

_LOAD_SECONDS: Final = 60.0
_FORBIDS: Final = "events may not be sent there"


class WebhookParts(NamedTuple):
    """`service`: what users can do; `kit`, `secrets`: what deliveries need."""

    service: Webhooks
    kit: DeliveryKit
    secrets: WebhookSecrets


@asynccontextmanager
async def running_webhooks(
    settings: Settings, store: EventStore, codec: EventCodec, identity: str
) -> AsyncIterator[WebhookParts]:
    """The webhooks of `store` (which `identity` names), known within the context. Nothing is sent but tests.

    Raises TimeoutError where the store does not tell them."""
    policy = AddressPolicy(settings.serves_this_machine_only, settings.allowed_networks, _FORBIDS)
    source = f"urn:uuid:{identity}"
    payloads = Payloads(EventMessages(codec, source), source)
    streams, directory = WebhookStreams(store), WebhookDirectory(store)
    secrets = WebhookSecrets(settings.shared_folder)
    async with (
        ProjectionRunner(store, directory) as seen,
        Sender(policy, timeout=settings.webhook_timeout) as sender,
    ):
        async with asyncio.timeout(_LOAD_SECONDS):
            await directory.wait_change(0)
        kit = DeliveryKit(
            store=store,
            streams=streams,
            directory=directory,
            seen=seen,
            checkpoints=StreamCheckpoints(store),
            payloads=payloads,
            sender=sender,
            retries=RetryPolicy(give_up_after=settings.webhook_retry_time),
            clock=time.time,
            counts=DeliveryCounts(),
        )
        service = Webhooks(store, streams, directory, seen, secrets, payloads, sender, policy, time.time)
        yield WebhookParts(service, kit, secrets)


@asynccontextmanager
async def dispatching(parts: WebhookParts, leadership: Leadership) -> AsyncIterator[Dispatcher]:
    """Events are sent within the context, where this copy leads."""
    dispatcher = Dispatcher(parts.kit, parts.secrets, leadership)
    task = asyncio.create_task(dispatcher.run(), name="webhooks")
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.wait([task])
