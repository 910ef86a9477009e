"""The bodies of answers about webhooks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from monolith.api.answers import iso_time
from monolith.domain.webhook import ParkedDelivery, Webhook
from monolith.webhooks.sender import Answer


class WebhookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. `url`: what may be secret in it is `***`; `events`: names of events, `*`: all; `ts`: when it was
    added, ISO 8601, UTC. `status` is `disabled` while nothing is sent to it, `reason` says why. `parked`: deliveries
    that were given up; `replaying`: of these, those that are being tried again."""

    webhook_id: str
    url: str
    events: tuple[str, ...]
    description: str
    ts: str
    status: Literal["active", "disabled"]
    reason: str | None
    parked: int
    replaying: int


class AddedWebhookAnswer(WebhookAnswer, frozen=True, kw_only=True):
    """A new webhook. `secret`: what its deliveries are signed with, told here only."""

    secret: str


class ParkedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up. `message_id`: the event's id; `reason`: of the last failure; `ts`: when, ISO 8601,
    UTC; `replaying`: it is being tried again."""

    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    attempts: int
    reason: str
    ts: str
    replaying: bool


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries are tried again now; those that fail again stay parked."""

    replaying: int


class WebhookTestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a test. `status`: the receiver's, null where it gave none; `failure`: why it did not count as
    delivered; `seconds`: how long it took."""

    delivered: bool
    status: int | None
    failure: str | None
    seconds: float


def webhook_answer(webhook: Webhook) -> WebhookAnswer:
    return WebhookAnswer(**_fields(webhook))


def added_answer(webhook: Webhook, secret: str) -> AddedWebhookAnswer:
    return AddedWebhookAnswer(**_fields(webhook), secret=secret)


def parked_answer(parked: ParkedDelivery) -> ParkedAnswer:
    return ParkedAnswer(
        message_id=parked.message_id,
        event_type=parked.event_type,
        stream_name=parked.stream_name,
        stream_position=parked.stream_position,
        attempts=parked.attempts,
        reason=parked.reason,
        ts=iso_time(parked.parked_at),
        replaying=parked.replaying,
    )


def trial_answer(answer: Answer) -> WebhookTestAnswer:
    return WebhookTestAnswer(
        delivered=answer.delivered,
        status=answer.status,
        failure=answer.failure,
        seconds=round(answer.seconds, 3),
    )


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "events": webhook.event_types,
        "description": webhook.description,
        "ts": iso_time(webhook.added_at),
        "status": "active" if webhook.active else "disabled",
        "reason": webhook.disabled,
        "parked": len(webhook.parked),
        "replaying": len(webhook.replaying),
    }
