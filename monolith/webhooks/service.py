"""What users can do with webhooks. Answers come when the directory of this copy knows."""

from __future__ import annotations

import asyncio
import difflib
import re
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from eventsourcing.store import EventStore
from monolith.application.ports import Clock, ReadModelGate
from monolith.application.redaction import HIDDEN
from monolith.domain.errors import InvalidRequestError, NotPossibleError
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.ids import new_id
from monolith.domain.webhook import (
    EVERYTHING,
    AddWebhook,
    DismissParked,
    EnableWebhook,
    ParkedDelivery,
    RemoveWebhook,
    RequestReplay,
    Webhook,
    WebhookCommand,
)
from monolith.ingest.addresses import AddressPolicy, ForbiddenAddressError, resolve
from monolith.ingest.web_url import UrlError, WebUrl
from monolith.webhooks.directory import WebhookDirectory, WebhookStreams
from monolith.webhooks.payload import Payloads
from monolith.webhooks.secrets import Target, WebhookSecrets
from monolith.webhooks.sender import Answer, Sender
from monolith.webhooks.signature import new_secret

EVENT_NAMES: Final = tuple(kind.__name__ for kind in DOMAIN_EVENTS)
MOST_WEBHOOKS: Final = 32
_LONGEST_DESCRIPTION: Final = 200
_GATE_SECONDS: Final = 10.0
_RESOLVE_SECONDS: Final = 5.0
_LIKE_A_SECRET: Final = re.compile(r"(?=.*\d)[^/]{8,}|[^/]{24,}")


class Added(NamedTuple):
    """`secret`: is shown this once."""

    webhook: Webhook
    secret: str


class Webhooks:
    """Methods raise DomainErrors, the store's errors, and TimeoutError where the directory is late."""

    def __init__(
        self,
        store: EventStore,
        streams: WebhookStreams,
        directory: WebhookDirectory,
        seen: ReadModelGate,
        secrets: WebhookSecrets,
        payloads: Payloads,
        sender: Sender,
        policy: AddressPolicy,
        clock: Clock,
    ) -> None:
        self._store = store
        self._streams = streams
        self._directory = directory
        self._seen = seen
        self._secrets = secrets
        self._payloads = payloads
        self._sender = sender
        self._policy = policy
        self._clock = clock
        self._adding = asyncio.Lock()
        """Who is added counts before the next is."""

    def all(self) -> list[Webhook]:
        """The first coming first."""
        return self._directory.all()

    def get(self, webhook_id: str) -> Webhook:
        return self._directory.get(webhook_id)

    async def add(self, url: object, event_types: object, description: object = None) -> Added:
        """What happens from now on is sent to `url`, as far as `event_types` names it (`*`: all of it)."""
        address = await self._checked_address(url)
        types, text = checked_types(event_types), _checked_description(description)
        async with self._adding:
            return await self._add(address, types, text)

    async def _add(self, address: str, types: tuple[str, ...], text: str) -> Added:
        if len(self.all()) >= MOST_WEBHOOKS:
            raise NotPossibleError(
                f"there are {MOST_WEBHOOKS} webhooks, which is the limit; remove one first"
            )
        webhook_id, secret = new_id(), new_secret()
        await self._secrets.keep(webhook_id, Target(address, secret))
        await self._streams.list_as(webhook_id)
        await self._do(
            webhook_id,
            AddWebhook(
                at=self._clock(), webhook_id=webhook_id, url=shown_url(address), event_types=types,
                description=text, start=await self._store.head(),
            ),
        )  # fmt: skip
        return Added(self.get(webhook_id), secret)

    async def remove(self, webhook_id: str) -> None:
        await self._do(webhook_id, RemoveWebhook(at=self._clock(), webhook_id=webhook_id))
        await self._secrets.forget(webhook_id)

    async def enable(self, webhook_id: str) -> Webhook:
        await self._do(webhook_id, EnableWebhook(at=self._clock(), webhook_id=webhook_id))
        return self.get(webhook_id)

    async def test(self, webhook_id: str) -> Answer:
        """Send it one message of its own, once, also while it is disabled."""
        self.get(webhook_id)
        target = await self._secrets.target_of(webhook_id)
        if target is None:
            raise NotPossibleError(
                f"the secret of webhook {webhook_id} is gone from the secrets folder; remove it and add it again"
            )
        message = self._payloads.of_trial(new_id(), webhook_id, self._clock())
        return await self._sender.send(target, message)

    def parked(self, webhook_id: str) -> list[ParkedDelivery]:
        """The first coming first."""
        return list(self.get(webhook_id).parked.values())

    async def replay(self, webhook_id: str, message_ids: object = None) -> int:
        """Try parked deliveries again (None: all of them); how many that are."""
        chosen = _checked_ids(message_ids)
        await self._do(webhook_id, RequestReplay(at=self._clock(), webhook_id=webhook_id, message_ids=chosen))
        webhook = self.get(webhook_id)
        return len(webhook.replaying if chosen is None else set(chosen))

    async def dismiss(self, webhook_id: str, message_ids: object = None) -> None:
        """Forget parked deliveries (None: all of them)."""
        chosen = _checked_ids(message_ids)
        await self._do(webhook_id, DismissParked(at=self._clock(), webhook_id=webhook_id, message_ids=chosen))

    async def _do(self, webhook_id: str, command: WebhookCommand) -> None:
        outcome = await self._streams.execute(webhook_id, command)
        if outcome.commit_position is not None:
            await self._seen.wait_for(outcome.commit_position, _GATE_SECONDS)

    async def _checked_address(self, url: object) -> str:
        """Of a receiver that exists and may be sent to, as far as can be told now. Each delivery checks it again."""
        if not isinstance(url, str):
            raise InvalidRequestError("url must be text, such as https://example.org/hook", field="url")
        try:
            parsed = WebUrl.parse(url)
        except UrlError as error:
            raise _wrong_url(str(error)) from error
        if parsed.scheme not in ("http", "https"):
            raise _wrong_url(f"{parsed.scheme}: is not allowed")
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                addresses = await resolve(parsed.host, parsed.port)
            for address in addresses:
                self._policy.check(address, parsed.host)
        except ForbiddenAddressError as error:
            raise InvalidRequestError(f"url: {error}", field="url") from error
        except (socket.gaierror, TimeoutError) as error:
            raise InvalidRequestError(
                f"url: the name {parsed.host} cannot be looked up (DNS); name a receiver that is there",
                field="url",
            ) from error
        return url


def shown_url(url: str) -> str:
    """As users see it again: many receivers are known by a secret in their path, so what may be one is hidden, as are
    credentials and the query."""
    parsed = WebUrl.parse(url)
    path, _, query = parsed.target.partition("?")
    shown = "/".join(HIDDEN if _LIKE_A_SECRET.fullmatch(part) else part for part in path.split("/"))
    return str(parsed._replace(target=f"{shown}?{HIDDEN}" if query else shown))


def _wrong_url(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"url: {reason}; it takes an address such as https://example.org/hook", field="url"
    )


def checked_types(event_types: object) -> tuple[str, ...]:
    """Without repeats. Raises InvalidRequestError."""
    if not isinstance(event_types, list | tuple) or not event_types:
        raise InvalidRequestError(
            'events must be a list of names of events, such as ["RunCompleted", "RunFailed"], or ["*"] for all',
            field="events",
        )
    for name in event_types:
        if name != EVERYTHING and name not in EVENT_NAMES:
            raise InvalidRequestError(_unknown_type(str(name)[:100]), field="events")
    return tuple(dict.fromkeys(event_types))


def _unknown_type(name: str) -> str:
    near = difflib.get_close_matches(name, EVENT_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(EVENT_NAMES)}; * stands for all"
    return f"events: there is no event {name!r}; {hint}"


def _checked_description(description: object) -> str:
    if description is None:
        return ""
    if (
        not isinstance(description, str)
        or len(description) > _LONGEST_DESCRIPTION
        or not description.isprintable()
    ):
        raise InvalidRequestError(
            f"description must be printable text of at most {_LONGEST_DESCRIPTION} characters",
            field="description",
        )
    return description


def _checked_ids(message_ids: object) -> tuple[str, ...] | None:
    if message_ids is None:
        return None
    if not isinstance(message_ids, Sequence) or isinstance(message_ids, str) or not message_ids:
        raise InvalidRequestError(
            "message_ids must be a list of ids; without it, all are meant", field="message_ids"
        )
    try:
        return tuple(str(UUID(one)) for one in message_ids)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            "message_ids must be UUIDs, as the list of parked deliveries shows them", field="message_ids"
        ) from error
