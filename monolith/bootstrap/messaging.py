"""Wires what RabbitMQ is told and asked: the relay of events, and submission by message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.codec import EventCodec
from eventsourcing.store import DurableEventStore
from monolith.application.handlers import VideoHandlers
from monolith.application.leadership import Leadership, LeasedLeadership, SoleLeadership
from monolith.application.tracing import Tracing
from monolith.bootstrap.sharing import Sharing
from monolith.messaging.commands import Commands
from monolith.messaging.connection import MessageBroker
from monolith.messaging.relay import Relay
from monolith.messaging.schemas import EventMessages

RELAY: Final = "relay"


class Messaging(NamedTuple):
    """What runs where there is a RabbitMQ."""

    broker: MessageBroker
    relay: Relay
    commands: Commands


@asynccontextmanager
async def messaging_of(
    broker: MessageBroker | None,
    store: DurableEventStore,
    codec: EventCodec,
    handlers: VideoHandlers,
    sharing: Sharing,
    no_room: Callable[[], Awaitable[str | None]],
    tracing: Tracing,
) -> AsyncIterator[Messaging | None]:
    """None where the settings name no RabbitMQ. Within the context this copy may be the one that relays."""
    if broker is None:
        yield None
        return
    async with _relay_leadership(sharing) as leadership:
        messages = EventMessages(codec, f"urn:uuid:{store.identity}")
        relay = Relay(
            store, messages, StreamCheckpoints(store), leadership, broker, lambda: store.last_position,
            tracing=tracing,
        )  # fmt: skip
        yield Messaging(broker, relay, Commands(handlers, broker, no_room, tracing=tracing))


@asynccontextmanager
async def _relay_leadership(sharing: Sharing) -> AsyncIterator[Leadership]:
    if sharing.leases is None:
        yield SoleLeadership()
        return
    async with LeasedLeadership(
        sharing.leases, RELAY, sharing.owner, title="the one that tells RabbitMQ"
    ) as leadership:
        yield leadership
