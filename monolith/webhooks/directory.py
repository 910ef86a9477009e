"""Which webhooks there are, and how each of them stands: kept in memory from their streams, by every copy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, cast

from eventsourcing.codec import EventCodec
from eventsourcing.decider import Outcome, StateCache, execute, load
from eventsourcing.errors import EventDecodingError, UnknownEventTypeError
from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore, iterate_stream
from eventsourcing.versions import ANY
from monolith.domain.errors import WebhookNotFoundError
from monolith.domain.webhook import Webhook, WebhookCommand, WebhookDecider
from monolith.domain.webhook_events import (
    WEBHOOK_EVENTS,
    WEBHOOKS_STREAM,
    WebhookEvent,
    WebhookListed,
    webhook_stream,
)

_PREFIX: Final = webhook_stream("")
_DECIDER: Final = WebhookDecider()
_CODEC: Final = EventCodec(WEBHOOK_EVENTS)
_MAX_ATTEMPTS: Final = 20
_CACHED_EVENTS: Final = 20_000

logger = logging.getLogger(__name__)


class WebhookStreams:
    """The streams of all webhooks. Methods raise the decider's DomainErrors and EventStoreErrors."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._cache: StateCache[Webhook] = StateCache(_CACHED_EVENTS)

    async def execute(self, webhook_id: str, command: WebhookCommand) -> Outcome[Webhook, WebhookEvent]:
        """Decide on `command` and append the answer."""
        return await execute(
            self._store, _CODEC, _DECIDER, webhook_stream(webhook_id), command,
            max_attempts=_MAX_ATTEMPTS, cache=self._cache,
        )  # fmt: skip

    async def list_as(self, webhook_id: str) -> None:
        """Before the webhook is added: so it will be found."""
        event = _CODEC.encode(WebhookListed(webhook_id=webhook_id))
        await self._store.append(WEBHOOKS_STREAM, [event], expected_version=ANY)


class WebhookDirectory:
    """The `Projection` of webhooks (see `eventsourcing.projection`), without a file: it begins with what the streams
    say and goes on behind."""

    name = "webhooks"
    prefixes: Sequence[str] = (WEBHOOKS_STREAM, _PREFIX)

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._states: dict[str, Webhook] = {}
        self._versions: dict[str, int] = {}
        self._news = asyncio.Event()
        self.changes = 0
        """How often anything has changed."""

    def all(self) -> list[Webhook]:
        """Those that are there, the first coming first."""
        return [webhook for webhook in self._states.values() if webhook.there]

    def get(self, webhook_id: str) -> Webhook:
        """Raises WebhookNotFoundError."""
        webhook = self._states.get(webhook_id)
        if webhook is None or not webhook.there:
            raise WebhookNotFoundError(webhook_id)
        return webhook

    async def wait_change(self, seen: int) -> None:
        """Until there were more than `seen` changes."""
        while self.changes <= seen:
            await self._news.wait()

    # What its runner calls.

    async def checkpoint(self) -> int | None:
        """Read what there is; the position to go on behind."""
        position = await self._store.head()
        async for event in iterate_stream(self._store, WEBHOOKS_STREAM):
            try:
                listed = _CODEC.decode(event)
                if isinstance(listed, WebhookListed):
                    await self._load(listed.webhook_id)
            except (UnknownEventTypeError, EventDecodingError) as error:
                await self.park(event, error)
        self.tell()
        return position

    async def apply(self, events: list[RecordedEvent]) -> None:
        for event in events:
            if event.stream_name.startswith(_PREFIX):
                self._apply(event)
        self.tell()

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        """It cannot be read (a newer program wrote it): its webhook stays as it was, or is not there."""
        logger.error("an event of webhooks in %s cannot be read: %s", event.stream_name, error)

    def _apply(self, event: RecordedEvent) -> None:
        webhook_id = event.stream_name.removeprefix(_PREFIX)
        if event.stream_position <= self._versions.get(webhook_id, -1):
            return  # it was read at the beginning
        before = self._states.get(webhook_id, Webhook())
        self._states[webhook_id] = _DECIDER.evolve(before, cast(WebhookEvent, _CODEC.decode(event)))
        self._versions[webhook_id] = event.stream_position

    async def _load(self, webhook_id: str) -> None:
        loaded = await load(self._store, _CODEC, _DECIDER, webhook_stream(webhook_id))
        if loaded.version is not None:
            self._states[webhook_id], self._versions[webhook_id] = loaded.state, loaded.version

    def tell(self) -> None:
        """Wake all who wait for a change."""
        self.changes += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
