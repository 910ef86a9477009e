from __future__ import annotations

import pytest

from eventsourcing.testing import given
from monolith.domain.errors import InvalidRequestError, NotPossibleError, WebhookNotFoundError
from monolith.domain.webhook import (
    MOST_PARKED,
    AddWebhook,
    DisableWebhook,
    DismissParked,
    EnableWebhook,
    ParkDelivery,
    RecordReplay,
    RemoveWebhook,
    RequestReplay,
    WebhookCommand,
    WebhookDecider,
)
from monolith.domain.webhook_events import (
    DeliveriesDismissed,
    DeliveryParked,
    DeliveryReplayed,
    ReplayRequested,
    WebhookAdded,
    WebhookDisabled,
    WebhookEnabled,
    WebhookRemoved,
)

HOOK = "0197c0de-0000-7000-8000-000000000001"
HOOKS = WebhookDecider()
ADDED = WebhookAdded(
    webhook_id=HOOK,
    url="https://example.org/hook",
    event_types=("RunCompleted",),
    description="",
    start=7,
    added_at=1.0,
)
REMOVED = WebhookRemoved(webhook_id=HOOK, removed_at=2.0)
DISABLED = WebhookDisabled(webhook_id=HOOK, reason="gone", disabled_at=2.0)


def parked(message_id: str = "a", attempts: int = 3) -> DeliveryParked:
    return DeliveryParked(
        webhook_id=HOOK, message_id=message_id, event_type="RunCompleted", stream_name="video-1",
        stream_position=2, attempts=attempts, reason="it failed", parked_at=2.0,
    )  # fmt: skip


def park(message_id: str = "a", attempts: int = 3, *, again: bool = False) -> ParkDelivery:
    return ParkDelivery(
        at=2.0, webhook_id=HOOK, message_id=message_id, event_type="RunCompleted", stream_name="video-1",
        stream_position=2, attempts=attempts, reason="it failed", again=again,
    )  # fmt: skip


def replay(*message_ids: str) -> RequestReplay:
    return RequestReplay(at=2.0, webhook_id=HOOK, message_ids=message_ids or None)


def requested(*message_ids: str) -> ReplayRequested:
    return ReplayRequested(webhook_id=HOOK, message_ids=message_ids, requested_at=2.0)


def test_it_is_added_once() -> None:
    add = AddWebhook(
        at=1.0, webhook_id=HOOK, url=ADDED.url, event_types=ADDED.event_types, description="", start=7
    )
    state = given(HOOKS).when(add).then(ADDED)
    assert state.active
    assert state.wants("RunCompleted")
    assert not state.wants("RunFailed")
    given(HOOKS, ADDED).when(add).then_nothing()
    given(HOOKS, ADDED, REMOVED).when(add).then_nothing()


@pytest.mark.parametrize(
    "command",
    [
        RemoveWebhook(at=2.0, webhook_id=HOOK),
        EnableWebhook(at=2.0, webhook_id=HOOK),
        replay(),
        DismissParked(at=2.0, webhook_id=HOOK, message_ids=None),
    ],
    ids=lambda command: type(command).__name__,
)
def test_users_are_told_that_there_is_none(command: WebhookCommand) -> None:
    given(HOOKS).when(command).then_raises(WebhookNotFoundError, f"no webhook {HOOK}")
    given(HOOKS, ADDED, REMOVED).when(command).then_raises(WebhookNotFoundError)


@pytest.mark.parametrize(
    "command",
    [
        park(),
        DisableWebhook(at=2.0, webhook_id=HOOK, reason="gone"),
        RecordReplay(at=2.0, webhook_id=HOOK, message_id="a"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_deliveries_that_end_after_it_was_removed_say_nothing(command: WebhookCommand) -> None:
    given(HOOKS, ADDED, REMOVED).when(command).then_nothing()


def test_it_is_disabled_once_and_enabled_once() -> None:
    disable, enable = (
        DisableWebhook(at=2.0, webhook_id=HOOK, reason="gone"),
        EnableWebhook(at=2.0, webhook_id=HOOK),
    )
    assert given(HOOKS, ADDED).when(disable).then(DISABLED).disabled == "gone"
    given(HOOKS, ADDED, DISABLED).when(disable).then_nothing()
    enabled = WebhookEnabled(webhook_id=HOOK, enabled_at=2.0)
    assert given(HOOKS, ADDED, DISABLED).when(enable).then(enabled).active
    given(HOOKS, ADDED).when(enable).then_nothing()


def test_a_delivery_is_parked_once() -> None:
    assert given(HOOKS, ADDED).when(park()).then(parked()).parked["a"].reason == "it failed"
    given(HOOKS, ADDED, parked()).when(park()).then_nothing()


def test_a_replay_ends_with_its_delivery_or_with_its_being_parked_again() -> None:
    after = given(HOOKS, ADDED, parked("a"), parked("b")).when(replay()).then(requested("a", "b"))
    assert [one.message_id for one in after.replaying] == ["a", "b"]
    given(HOOKS, ADDED, parked("a"), requested("a")).when(replay("a")).then_nothing()
    again = given(HOOKS, ADDED, parked(), requested("a")).when(park(attempts=5)).then(parked(attempts=5))
    assert again.replaying == []
    delivered = DeliveryReplayed(webhook_id=HOOK, message_id="a", delivered_at=2.0)
    record = RecordReplay(at=2.0, webhook_id=HOOK, message_id="a")
    assert given(HOOKS, ADDED, parked(), requested("a")).when(record).then(delivered).parked == {}
    given(HOOKS, ADDED, parked(), delivered).when(record).then_nothing()


def test_only_what_is_parked_can_be_replayed_and_only_while_it_is_active() -> None:
    given(HOOKS, ADDED, parked()).when(replay("x")).then_raises(InvalidRequestError, "no parked delivery 'x'")
    given(HOOKS, ADDED, parked(), DISABLED).when(replay("a")).then_raises(
        NotPossibleError, "enable it before"
    )
    given(HOOKS, ADDED).when(replay()).then_nothing()


def test_what_was_dismissed_while_it_was_tried_again_is_not_parked_again() -> None:
    gone = DeliveriesDismissed(webhook_id=HOOK, message_ids=("a",), dismissed_at=2.0)
    requested = ReplayRequested(webhook_id=HOOK, message_ids=("a",), requested_at=2.0)
    given(HOOKS, ADDED, parked("a"), requested, gone).when(park("a", 5, again=True)).then()
    given(HOOKS, ADDED, parked("a"), requested).when(park("a", 5, again=True)).then(parked("a", 5))


def test_parked_deliveries_can_be_dismissed() -> None:
    dismiss = DismissParked(at=2.0, webhook_id=HOOK, message_ids=("a", "a"))
    gone = DeliveriesDismissed(webhook_id=HOOK, message_ids=("a",), dismissed_at=2.0)
    state = given(HOOKS, ADDED, parked("a"), parked("b")).when(dismiss).then(gone)
    assert list(state.parked) == ["b"]
    given(HOOKS, ADDED).when(DismissParked(at=2.0, webhook_id=HOOK, message_ids=None)).then_nothing()


def test_it_is_disabled_when_too_much_is_parked() -> None:
    many = [parked(str(number)) for number in range(MOST_PARKED - 1)]
    reason = f"{MOST_PARKED} deliveries are parked; the last one: it failed"
    disabled = WebhookDisabled(webhook_id=HOOK, reason=reason, disabled_at=2.0)
    given(HOOKS, ADDED, *many).when(park("last")).then(parked("last"), disabled)
    given(HOOKS, ADDED, *many, parked("last"), disabled).when(park("one more")).then(parked("one more"))
