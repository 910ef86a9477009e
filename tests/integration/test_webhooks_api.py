"""Webhooks over HTTP: what is answered, and what is refused in which words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY
from monolith.domain.webhook import ParkDelivery
from monolith.domain.webhook_events import WEBHOOKS_STREAM
from monolith.webhooks.directory import WebhookStreams
from tests.peers.receiver import closed_url, receiver
from tests.unit.api.harness import Api, running_api

UNKNOWN = "0199aaaa-0000-7000-8000-00000000000f"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


async def add(api: Api, **changes: Any) -> dict[str, Any]:
    body = {"url": closed_url(), "events": ["RunCompleted"]} | changes
    answer = await api.client.post("/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/webhooks/{added['webhook_id']}"
    assert answer.headers["cache-control"] == "no-store"
    return added


async def park(api: Api, webhook_id: str, count: int) -> list[str]:
    """As the copy does it that sends; the ids."""
    ids = [f"0199aaaa-0000-7000-8000-{number:012d}" for number in range(count)]
    for message_id in ids:
        outcome = await WebhookStreams(api.store).execute(
            webhook_id,
            ParkDelivery(
                at=time.time(), webhook_id=webhook_id, message_id=message_id, event_type="RunCompleted",
                stream_name="video-x", stream_position=0, attempts=9, reason="the receiver answered 500",
            ),
        )  # fmt: skip
        assert outcome.events
    async with asyncio.timeout(20):
        while (await api.get(f"/webhooks/{webhook_id}")).json()["parked"] < count:
            await asyncio.sleep(0.01)
    return ids


async def test_one_is_added_shown_and_removed(api: Api) -> None:
    added = await add(api, description="dashboard")
    secret = added.pop("secret")
    assert secret.startswith("whsec_")
    assert added["status"] == "active"
    assert (await api.get("/webhooks")).json() == [added]
    assert (await api.get(f"/webhooks/{added['webhook_id']}")).json() == added
    assert secret not in (await api.get("/webhooks")).text
    assert (await api.client.delete(f"/webhooks/{added['webhook_id']}")).status_code == 204
    assert (await api.get("/webhooks")).json() == []
    gone = await api.client.delete(f"/webhooks/{added['webhook_id']}")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:video-analysis:problem:webhook-not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.org", "events": ["*"]}, "url"),
        ({"events": ["*"]}, "url"),
        ({"url": "http://127.0.0.1/"}, "events"),
        ({"url": "http://127.0.0.1/", "events": ["Nothing"]}, "events"),
        ({"url": "http://127.0.0.1/", "events": ["*"], "secret": "mine"}, "secret"),
    ],
)
async def test_a_wrong_body_is_refused(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.client.post("/webhooks", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/enable"),
        ("POST", "/test"),
        ("POST", "/replay"),
        ("GET", "/parked"),
        ("DELETE", "/parked"),
    ],
)
async def test_one_that_is_not_there(api: Api, method: str, path: str) -> None:
    assert (await api.client.request(method, f"/webhooks/{UNKNOWN}{path}")).status_code == 404
    wrong = await api.client.request(method, f"/webhooks/x{path}")
    assert (wrong.status_code, wrong.json()["field"]) == (400, "webhook_id")


async def test_parked_deliveries_come_in_pages_and_are_replayed_and_dismissed(api: Api) -> None:
    place = f"/webhooks/{(await add(api))['webhook_id']}"
    ids = await park(api, place.rpartition("/")[2], 5)
    page = await api.get(f"{place}/parked", params={"limit": 3})
    assert [one["message_id"] for one in page.json()] == ids[:3]
    assert page.json()[0]["reason"] == "the receiver answered 500"
    assert page.links["next"]["url"] == f"{place}/parked?limit=3&offset=3"
    rest = await api.get(page.links["next"]["url"])
    assert [one["message_id"] for one in rest.json()] == ids[3:]
    assert "link" not in rest.headers
    one = await api.client.post(f"{place}/replay", json={"message_ids": ids[:1]})
    assert (one.status_code, one.json()) == (202, {"replaying": 1})
    assert (await api.get(place)).json()["replaying"] == 1
    assert (await api.client.post(f"{place}/replay")).json() == {"replaying": 5}
    unknown = await api.client.post(f"{place}/replay", json={"message_ids": [UNKNOWN]})
    assert (unknown.status_code, unknown.json()["field"]) == (400, "message_ids")
    few = await api.client.request("DELETE", f"{place}/parked", json={"message_ids": ids[:2]})
    assert few.status_code == 204
    assert (await api.get(place)).json()["parked"] == 3
    assert (await api.client.delete(f"{place}/parked")).status_code == 204
    assert (await api.get(f"{place}/parked")).json() == []


async def test_a_test_says_what_came_of_it(api: Api) -> None:
    async with receiver(500) as there:
        added = await add(api, url=there.url)
        answer = (await api.client.post(f"/webhooks/{added['webhook_id']}/test")).json()
        assert (answer["delivered"], answer["status"]) == (False, 500)
        assert answer["failure"] == "the receiver answered 500 Internal Server Error"
        assert there.deliveries[0].is_signed_by(added["secret"])


async def test_an_event_of_webhooks_that_nobody_can_read_is_passed_over(api: Api) -> None:
    first = await add(api)
    await api.store.append(WEBHOOKS_STREAM, [_torn()], expected_version=ANY)
    await api.store.append(f"webhook-{first['webhook_id']}", [_torn()], expected_version=ANY)
    await add(api)
    assert len((await api.get("/webhooks")).json()) == 2


def _torn() -> NewEvent:
    return NewEvent(event_id=uuid4(), event_type="OfTheFuture", data=b"{}")
