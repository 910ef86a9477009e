"""A webhook: what may happen to it next, and what has. Pure.

Rules:
- It is active, disabled (by a receiver that is gone, or when too much is parked; by nobody else), or removed for good.
- A delivery is parked once; asked for, it is replayed, which ends with its delivery or with its being parked again.
- What was decided already is decided again as nothing: two leaders may say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from monolith.domain.commands import Command
from monolith.domain.errors import InvalidRequestError, NotPossibleError, WebhookNotFoundError
from monolith.domain.webhook_events import (
    DeliveriesDismissed,
    DeliveryParked,
    DeliveryReplayed,
    ReplayRequested,
    WebhookAdded,
    WebhookDisabled,
    WebhookEnabled,
    WebhookEvent,
    WebhookRemoved,
)

EVERYTHING: Final = "*"
MOST_PARKED: Final = 1000
"""Deliveries of one webhook. With so many parked it is disabled: what follows stays where it is."""


class ParkedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event that did not reach its receiver. `replaying`: a user wants it to be tried again."""

    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    attempts: int
    reason: str
    parked_at: float
    replaying: bool = False


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One as its stream tells. `disabled`: why; None while it is active. `parked`: by message id, the first coming
    first."""

    webhook_id: str = ""
    url: str = ""
    event_types: tuple[str, ...] = ()
    description: str = ""
    start: int | None = None
    added_at: float = 0.0
    removed: bool = False
    disabled: str | None = None
    parked: dict[str, ParkedDelivery] = {}

    @property
    def there(self) -> bool:
        """Whether it was added, and not removed."""
        return bool(self.webhook_id) and not self.removed

    @property
    def active(self) -> bool:
        return self.there and self.disabled is None

    @property
    def replaying(self) -> list[ParkedDelivery]:
        return [parked for parked in self.parked.values() if parked.replaying]

    def wants(self, event_type: str) -> bool:
        return EVERYTHING in self.event_types or event_type in self.event_types


class AddWebhook(Command, frozen=True, kw_only=True):
    """See `WebhookAdded`."""

    webhook_id: str
    url: str
    event_types: tuple[str, ...]
    description: str
    start: int | None


class RemoveWebhook(Command, frozen=True, kw_only=True):
    webhook_id: str


class DisableWebhook(Command, frozen=True, kw_only=True):
    """Its receiver does not want any more, or cannot be served."""

    webhook_id: str
    reason: str


class EnableWebhook(Command, frozen=True, kw_only=True):
    webhook_id: str


class ParkDelivery(Command, frozen=True, kw_only=True):
    """It was tried long enough. `again`: in a replay of what was parked before."""

    webhook_id: str
    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    attempts: int
    reason: str
    again: bool = False


class RequestReplay(Command, frozen=True, kw_only=True):
    """`message_ids`: None: all that are parked."""

    webhook_id: str
    message_ids: tuple[str, ...] | None


class RecordReplay(Command, frozen=True, kw_only=True):
    """A parked delivery has been delivered."""

    webhook_id: str
    message_id: str


class DismissParked(Command, frozen=True, kw_only=True):
    """`message_ids`: None: all that are parked."""

    webhook_id: str
    message_ids: tuple[str, ...] | None


WebhookCommand: TypeAlias = (
    AddWebhook
    | RemoveWebhook
    | DisableWebhook
    | EnableWebhook
    | ParkDelivery
    | RequestReplay
    | RecordReplay
    | DismissParked
)


class WebhookDecider:
    """The decider of `webhook-…` streams (see `eventsourcing.decider`)."""

    def initial(self) -> Webhook:
        return Webhook()

    def evolve(self, state: Webhook, event: WebhookEvent) -> Webhook:
        return _evolved(state, event)

    def decide(self, state: Webhook, command: WebhookCommand) -> Sequence[WebhookEvent]:
        """Raises WebhookNotFoundError, NotPossibleError, InvalidRequestError."""
        if isinstance(command, AddWebhook):
            return _add(state, command)
        if not state.there:
            return _decide_without(command)
        return _decide(state, command)


def _add(state: Webhook, command: AddWebhook) -> Sequence[WebhookEvent]:
    if state.webhook_id:
        return ()
    return (
        WebhookAdded(
            webhook_id=command.webhook_id,
            url=command.url,
            event_types=command.event_types,
            description=command.description,
            start=command.start,
            added_at=command.at,
        ),
    )


def _decide_without(command: WebhookCommand) -> Sequence[WebhookEvent]:
    """What deliveries on their way say of a webhook that is not there (any more) is of no use; users are told."""
    if isinstance(command, DisableWebhook | ParkDelivery | RecordReplay):
        return ()
    raise WebhookNotFoundError(command.webhook_id)


def _decide(state: Webhook, command: WebhookCommand) -> Sequence[WebhookEvent]:
    webhook_id, at = state.webhook_id, command.at
    match command:
        case AddWebhook():
            return ()
        case RemoveWebhook():
            return (WebhookRemoved(webhook_id=webhook_id, removed_at=at),)
        case DisableWebhook(reason=reason):
            disabled = WebhookDisabled(webhook_id=webhook_id, reason=reason, disabled_at=at)
            return (disabled,) if state.active else ()
        case EnableWebhook():
            return () if state.active else (WebhookEnabled(webhook_id=webhook_id, enabled_at=at),)
        case ParkDelivery():
            return _park(state, command)
        case RequestReplay():
            return _replay(state, command)
        case RecordReplay(message_id=message_id):
            replayed = DeliveryReplayed(webhook_id=webhook_id, message_id=message_id, delivered_at=at)
            return (replayed,) if message_id in state.parked else ()
        case DismissParked():
            chosen = _chosen(state, command.message_ids)
            dismissed = DeliveriesDismissed(webhook_id=webhook_id, message_ids=chosen, dismissed_at=at)
            return (dismissed,) if chosen else ()
    assert_never(command)


def _park(state: Webhook, command: ParkDelivery) -> Sequence[WebhookEvent]:
    known = state.parked.get(command.message_id)
    if command.again if known is None else not known.replaying:
        return ()  # it was dismissed meanwhile, or is parked already
    parked = DeliveryParked(
        webhook_id=state.webhook_id,
        message_id=command.message_id,
        event_type=command.event_type,
        stream_name=command.stream_name,
        stream_position=command.stream_position,
        attempts=command.attempts,
        reason=command.reason,
        parked_at=command.at,
    )
    if not state.active or known is not None or len(state.parked) + 1 < MOST_PARKED:
        return (parked,)
    reason = f"{len(state.parked) + 1} deliveries are parked; the last one: {command.reason}"
    return parked, WebhookDisabled(webhook_id=state.webhook_id, reason=reason, disabled_at=command.at)


def _replay(state: Webhook, command: RequestReplay) -> Sequence[WebhookEvent]:
    if state.disabled is not None:
        raise NotPossibleError(
            f"webhook {state.webhook_id} is disabled ({state.disabled}); enable it before a replay"
        )
    wanted = _chosen(state, command.message_ids)
    chosen = tuple(one for one in wanted if not state.parked[one].replaying)
    requested = ReplayRequested(webhook_id=state.webhook_id, message_ids=chosen, requested_at=command.at)
    return (requested,) if chosen else ()


def _chosen(state: Webhook, message_ids: tuple[str, ...] | None) -> tuple[str, ...]:
    """Of the parked ones. Raises InvalidRequestError."""
    if message_ids is None:
        return tuple(state.parked)
    for message_id in message_ids:
        if message_id not in state.parked:
            raise InvalidRequestError(
                f"webhook {state.webhook_id} has no parked delivery {message_id[:100]!r}; GET"
                f" /webhooks/{state.webhook_id}/parked lists them",
                field="message_ids",
            )
    return tuple(dict.fromkeys(message_ids))


def _evolved(state: Webhook, event: WebhookEvent) -> Webhook:
    match event:
        case WebhookAdded():
            return Webhook(
                webhook_id=event.webhook_id,
                url=event.url,
                event_types=event.event_types,
                description=event.description,
                start=event.start,
                added_at=event.added_at,
            )
        case WebhookRemoved():
            return _changed(state, removed=True, parked={})
        case WebhookDisabled():
            return _changed(state, disabled=event.reason)
        case WebhookEnabled():
            return _changed(state, disabled=None)
        case DeliveryParked():
            return _changed(state, parked={**state.parked, event.message_id: _parked(event)})
        case ReplayRequested():
            return _changed(state, parked=_replaying(state.parked, event.message_ids))
        case DeliveryReplayed():
            return _changed(state, parked=_without(state.parked, (event.message_id,)))
        case DeliveriesDismissed():
            return _changed(state, parked=_without(state.parked, event.message_ids))
    assert_never(event)


def _changed(state: Webhook, **changes: Any) -> Webhook:
    return msgspec.structs.replace(state, **changes)


def _parked(event: DeliveryParked) -> ParkedDelivery:
    return ParkedDelivery(
        message_id=event.message_id,
        event_type=event.event_type,
        stream_name=event.stream_name,
        stream_position=event.stream_position,
        attempts=event.attempts,
        reason=event.reason,
        parked_at=event.parked_at,
    )


def _replaying(parked: dict[str, ParkedDelivery], message_ids: Iterable[str]) -> dict[str, ParkedDelivery]:
    wanted = {
        one: msgspec.structs.replace(parked[one], replaying=True) for one in message_ids if one in parked
    }
    return {**parked, **wanted}


def _without(parked: dict[str, ParkedDelivery], message_ids: Iterable[str]) -> dict[str, ParkedDelivery]:
    gone = frozenset(message_ids)
    return {one: delivery for one, delivery in parked.items() if one not in gone}
