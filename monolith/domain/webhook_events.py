"""What happens to webhooks: who is told of events, and what could not be delivered. No secrets.

Streams: `webhooks` lists the ids of all, `webhook-{webhook_id}` tells of one. Times are Unix seconds (UTC).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from monolith.domain.events import Event

WEBHOOKS_STREAM: Final = "webhooks"


class WebhookListed(Event, frozen=True, kw_only=True, gc=False):
    """A webhook of this id may be there: its own stream says whether it is."""

    webhook_id: str


class WebhookAdded(Event, frozen=True, kw_only=True, gc=False):
    """Events of `event_types` (names; `*`: all) are to be sent to `url` (redacted: without password and tokens), those
    behind commit position `start` (None: all there ever were)."""

    webhook_id: str
    url: str
    event_types: tuple[str, ...]
    description: str
    start: int | None
    added_at: float


class WebhookRemoved(Event, frozen=True, kw_only=True, gc=False):
    """Nothing is sent to it any more."""

    webhook_id: str
    removed_at: float


class WebhookDisabled(Event, frozen=True, kw_only=True, gc=False):
    """Nothing is sent to it until it is enabled; then it goes on where it was. `reason` is for users."""

    webhook_id: str
    reason: str
    disabled_at: float


class WebhookEnabled(Event, frozen=True, kw_only=True, gc=False):
    """A user has enabled it again."""

    webhook_id: str
    enabled_at: float


class DeliveryParked(Event, frozen=True, kw_only=True, gc=False):
    """An event could not be delivered in `attempts` attempts and is set aside; those behind it go on. `message_id`: the
    event's id; `reason`: of the last failure, for users."""

    webhook_id: str
    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    attempts: int
    reason: str
    parked_at: float


class ReplayRequested(Event, frozen=True, kw_only=True, gc=False):
    """A user wants these parked deliveries to be tried again."""

    webhook_id: str
    message_ids: tuple[str, ...]
    requested_at: float


class DeliveryReplayed(Event, frozen=True, kw_only=True, gc=False):
    """A parked delivery has reached its receiver."""

    webhook_id: str
    message_id: str
    delivered_at: float


class DeliveriesDismissed(Event, frozen=True, kw_only=True, gc=False):
    """A user does not want these parked deliveries any more."""

    webhook_id: str
    message_ids: tuple[str, ...]
    dismissed_at: float


WebhookEvent: TypeAlias = (
    WebhookAdded
    | WebhookRemoved
    | WebhookDisabled
    | WebhookEnabled
    | DeliveryParked
    | ReplayRequested
    | DeliveryReplayed
    | DeliveriesDismissed
)

WEBHOOK_EVENTS: Final[tuple[type[Event], ...]] = (
    WebhookListed, WebhookAdded, WebhookRemoved, WebhookDisabled, WebhookEnabled, DeliveryParked, ReplayRequested,
    DeliveryReplayed, DeliveriesDismissed,
)  # fmt: skip
"""Of streams of their own: what is read, counted and relayed of videos does without them."""


def webhook_stream(webhook_id: str) -> str:
    return f"webhook-{webhook_id}"
