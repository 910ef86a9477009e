"""What users can do with webhooks, and what they are told when it is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY
from monolith.domain.errors import InvalidRequestError, NotPossibleError, WebhookNotFoundError
from monolith.domain.webhook_events import WEBHOOKS_STREAM, webhook_stream
from monolith.ingest.addresses import AddressPolicy
from monolith.webhooks.service import MOST_WEBHOOKS, shown_url
from tests.peers.receiver import closed_url, receiver
from tests.unit.webhooks.world import stop, world

UNKNOWN = "0199aaaa-0000-7000-8000-00000000000f"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"url": None}, "url", "url must be text"),
        ({"url": "example.org/hook"}, "url", "it has no scheme; it takes an address such as https://"),
        ({"url": "ftp://example.org/hook"}, "url", "ftp: is not allowed"),
        ({"url": "rtsp://example.org/hook"}, "url", "rtsp: is not allowed"),
        ({"url": "https:///hook"}, "url", "it names no host"),
        ({"url": "http://nowhere.invalid/hook"}, "url", "the name nowhere.invalid cannot be looked up (DNS)"),
        (
            {"url": "http://169.254.169.254/"},
            "url",
            "is a link-local or metadata address; events may not be sent there",
        ),
        ({"event_types": []}, "events", "events must be a list of names of events"),
        ({"event_types": "RunCompleted"}, "events", "events must be a list of names of events"),
        ({"event_types": [1]}, "events", "there is no event '1'"),
        ({"event_types": ["RunComplete"]}, "events", "no event 'RunComplete'; did you mean RunCompleted?"),
        ({"event_types": ["*", "qqqq"]}, "events", "* stands for all"),
        ({"description": "a\nb"}, "description", "printable text of at most 200 characters"),
    ],
)
async def test_what_is_wrong_is_told(tmp_path: Path, change: dict[str, Any], field: str, said: str) -> None:
    asked: dict[str, Any] = {"url": closed_url(), "event_types": ["*"], "description": None} | change
    async with world(tmp_path) as copy:
        with pytest.raises(InvalidRequestError) as refused:
            await copy.service.add(**asked)
        assert said in str(refused.value)
        assert refused.value.field == field
        assert copy.service.all() == []


async def test_addresses_that_videos_may_not_come_from_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, policy=AddressPolicy(loopback_only=False)) as copy:
        with pytest.raises(InvalidRequestError, match=r"127\.0\.0\.1 is not a public address"):
            await copy.service.add(closed_url(), ["*"])


async def test_there_is_a_limit(tmp_path: Path) -> None:
    async with world(tmp_path) as copy:
        asked = [copy.service.add(closed_url(), ["*"]) for _ in range(MOST_WEBHOOKS + 2)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in answers].count(NotPossibleError) == 2
        assert len(copy.service.all()) == MOST_WEBHOOKS
        with pytest.raises(NotPossibleError, match="remove one first"):
            await copy.service.add(closed_url(), ["*"])
        await copy.service.remove(copy.service.all()[0].webhook_id)
        await copy.service.add(closed_url(), ["*"])


async def test_every_copy_knows_them_and_a_new_one_does_from_the_start(tmp_path: Path) -> None:
    store = MemoryEventStore()
    async with world(tmp_path, store) as first, world(tmp_path, store) as second:
        kept = await first.service.add(closed_url(), ["RunFailed", "RunFailed"], "the second")
        gone = await second.service.add(closed_url(), ["*"])
        await first.until(lambda: len(first.service.all()) == 2)
        await first.service.remove(gone.webhook.webhook_id)
        await second.until(lambda: len(second.service.all()) == 1)
        assert second.service.get(kept.webhook.webhook_id).event_types == ("RunFailed",)
    async with world(tmp_path, store) as third:
        assert third.service.all() == [kept.webhook]
        with pytest.raises(WebhookNotFoundError):
            third.service.get(gone.webhook.webhook_id)
    await store.close()


async def test_a_webhook_that_a_newer_program_has_changed_stops_no_other(tmp_path: Path) -> None:
    store = MemoryEventStore()
    async with world(tmp_path, store) as copy:
        changed = (await copy.service.add(closed_url(), ["*"])).webhook.webhook_id
        kept = (await copy.service.add(closed_url(), ["*"])).webhook
    for name in (webhook_stream(changed), WEBHOOKS_STREAM):
        unknown = NewEvent(event_id=uuid4(), event_type="OfTheFuture", data=b"{}")
        await store.append(name, [unknown], expected_version=ANY)
    async with world(tmp_path, store) as copy:
        assert copy.service.all() == [kept]
    await store.close()


async def test_secrets_are_in_no_event(tmp_path: Path) -> None:
    url = "http://user:hidden-password@127.0.0.1:9/services/T0A1B2C3D/hidden42path?key=hidden-query"
    async with world(tmp_path) as copy:
        added = await copy.service.add(url, ["*"])
        stored = b"".join(event.data for event in await copy.store.read_all())
        assert b"hidden" not in stored
        assert added.secret.encode() not in stored
        assert added.webhook.url == "http://127.0.0.1:9/services/***/***?***"
        target = await copy.secrets.target_of(added.webhook.webhook_id)
        assert target is not None
        assert (target.url, target.secret) == (url, added.secret)
        assert "hidden" not in repr(target)
        [file] = (tmp_path / "secrets" / "webhooks").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/hooks/video", "https://example.org/hooks/video"),
        ("https://example.org:8443", "https://example.org:8443/"),
        ("https://example.org/a-name-that-is-much-too-long-for-one", "https://example.org/***"),
    ],
)
def test_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


async def test_a_test_tells_what_the_receiver_said(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver() as there:
        added = await copy.service.add(there.url, ["RunFailed"])
        answer = await copy.service.test(added.webhook.webhook_id)
        assert (answer.delivered, answer.status) == (True, 204)
        assert there.taken[0].is_signed_by(added.secret)
        assert there.taken[0].body["type"] == "webhook.WebhookTest"
        there.status = 500
        answer = await copy.service.test(added.webhook.webhook_id)
        assert (answer.delivered, answer.failure) == (
            False,
            "the receiver answered 500 Internal Server Error",
        )
        await copy.secrets.forget(added.webhook.webhook_id)
        with pytest.raises(NotPossibleError, match="secret"):
            await copy.service.test(added.webhook.webhook_id)
        with pytest.raises(WebhookNotFoundError):
            await copy.service.test(UNKNOWN)


@pytest.mark.parametrize("message_ids", [[], "x", ["x"], [1], 5])
async def test_ids_that_are_none_are_refused(tmp_path: Path, message_ids: object) -> None:
    async with world(tmp_path) as copy:
        webhook = (await copy.service.add(closed_url(), ["*"])).webhook
        with pytest.raises(InvalidRequestError, match="message_ids must be"):
            await copy.service.replay(webhook.webhook_id, message_ids)


async def test_nothing_is_delivered_by_a_copy_that_does_not_lead(tmp_path: Path) -> None:
    store = MemoryEventStore()
    async with receiver() as there, world(tmp_path, store) as idle, world(tmp_path, store) as leader:
        await idle.service.add(there.url, ["*"])
        await idle.happened(stop(1))
        assert there.deliveries == []
        async with leader.delivering():
            await there.until(lambda: len(there.taken) == 1)
    await store.close()
