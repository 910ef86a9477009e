"""Events for the contract tests, and short ways to write and follow them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from uuid_utils.compat import uuid7

from eventsourcing.events import CaughtUp, NewEvent, RecordedEvent
from eventsourcing.store import EventStore, SubscriptionItem
from eventsourcing.versions import ANY

WAIT = 60.0
"""Deadline in seconds of whatever a test waits for."""


def new(text: str = "", *, event_id: UUID | None = None) -> NewEvent:
    return NewEvent(
        event_id=event_id or uuid7(), event_type="Said", data=text.encode(), metadata={"correlation_id": text}
    )


def news(count: int, start: int = 0) -> list[NewEvent]:
    return [new(str(number)) for number in range(start, start + count)]


async def put(store: EventStore, stream_name: str, *texts: str) -> int:
    """Append; the commit position of the last."""
    result = await store.append(stream_name, [new(text) for text in texts], expected_version=ANY)
    return result.commit_position


def texts(events: Sequence[RecordedEvent]) -> list[str]:
    return [event.data.decode() for event in events]


async def next_item(items: AsyncIterator[SubscriptionItem]) -> SubscriptionItem:
    async with asyncio.timeout(WAIT):
        return await anext(items)


async def collect(items: AsyncIterator[SubscriptionItem], count: int) -> list[RecordedEvent]:
    """The next `count` events, whatever notices lie between."""
    found: list[RecordedEvent] = []
    while len(found) < count:
        item = await next_item(items)
        if not isinstance(item, CaughtUp):
            found += item
    return found


async def until_caught_up(
    items: AsyncIterator[SubscriptionItem],
) -> tuple[list[RecordedEvent], CaughtUp]:
    found: list[RecordedEvent] = []
    while not isinstance(item := await next_item(items), CaughtUp):
        found += item
    return found, item
