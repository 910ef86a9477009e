"""Deliveries to real receivers, good and bad ones."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from uuid import uuid4

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.checkpoints import StreamCheckpoints
from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY
from monolith.domain.events import frames_stream, video_stream
from monolith.domain.ids import new_id
from monolith.webhooks.delivery import checkpoint_name
from tests.peers.receiver import Delivery, closed_url, receiver
from tests.unit.webhooks.world import IMPATIENT, SOURCE, completed, stop, world


async def test_events_come_signed_and_only_those_that_were_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver() as there, copy.delivering():
        await copy.happened(completed())  # before the webhook was there
        added = await copy.service.add(there.url, ["RunCompleted"])
        _, expected = await copy.happened(stop(1), completed())
        await there.until(lambda: len(there.taken) == 1)
        [delivery] = there.deliveries
        assert delivery.message_id == str(expected)
        assert delivery.is_signed_by(added.secret)
        assert not delivery.is_signed_by("whsec_" + "A" * 44)
        assert delivery.headers["content-type"] == "application/cloudevents+json"
        body = delivery.body
        assert body["id"] == str(expected)
        assert (body["type"], body["source"], body["specversion"]) == ("video.RunCompleted", SOURCE, "1.0")
        assert body["data"]["coverage"] == 1.0


async def test_events_of_a_video_keep_their_order_though_some_are_refused(tmp_path: Path) -> None:
    chance = random.Random(1)
    videos = [new_id() for _ in range(5)]

    async def moody(delivery: Delivery) -> int:
        await asyncio.sleep(chance.uniform(0, 0.01))
        return chance.choice([200, 200, 500, 429, 0])

    async with world(tmp_path) as copy, receiver(moody) as there, copy.delivering():
        await copy.service.add(there.url, ["*"])
        ids: dict[str, list[str]] = {video: [] for video in videos}
        for number in range(60):
            video = chance.choice(videos)
            ids[video] += map(str, await copy.happened(stop(number, video)))
        await there.until(lambda: len({one.message_id for one in there.taken}) == 60)
        for video in videos:
            came = [one.message_id for one in there.taken if one.body["data"]["video_id"] == video]
            assert list(dict.fromkeys(came)) == ids[video]
        sent = {one.message_id for one in there.deliveries}
        assert sent == {one for some in ids.values() for one in some}, "ids stay the same on a retry"
        assert len(there.deliveries) > 60


async def test_a_receiver_that_hangs_holds_up_no_other_and_no_other_video_of_its_own(tmp_path: Path) -> None:
    stuck = new_id()

    async def hangs_for_one(delivery: Delivery) -> int:
        if delivery.body["data"]["video_id"] == stuck:
            await asyncio.Event().wait()
        return 200

    async with (
        world(tmp_path, timeout=600) as copy,
        receiver() as good,
        receiver(hangs_for_one) as bad,
        copy.delivering() as dispatcher,
    ):
        await copy.service.add(bad.url, ["*"])
        await copy.service.add(good.url, ["*"])
        await copy.happened(*(stop(number, stuck) for number in range(200)), stop(999))
        await good.until(lambda: len(good.taken) == 201)
        await bad.until(lambda: len(bad.taken) == 1)
        assert [one.body["data"]["requested_at"] for one in bad.taken] == [999.0]
        assert len(bad.deliveries) == 2, "those behind it wait"
        await copy.until(lambda: dispatcher.waiting == 200)
        assert dispatcher.oldest_age > 0


async def test_what_a_receiver_does_not_take_stays_in_the_store(tmp_path: Path) -> None:
    async def hang(delivery: Delivery) -> int:
        await asyncio.Event().wait()
        return 200

    async with (
        world(tmp_path, timeout=600, ahead=64) as copy,
        receiver(hang) as there,
        copy.delivering() as dispatcher,
    ):
        await copy.service.add(there.url, ["*"])
        await copy.happened(*(stop(number, new_id()) for number in range(200)))
        await there.until(lambda: len(there.deliveries) == 8)
        await copy.until(lambda: dispatcher.waiting == 64)
        there.status = 200
        await there.close()
        await there.until(lambda: len({one.message_id for one in there.taken}) == 200)


async def test_it_waits_for_an_answer_no_longer_than_said(tmp_path: Path) -> None:
    async def hang_once(delivery: Delivery) -> int:
        if len(there.deliveries) == 1:
            await asyncio.Event().wait()
        return 200

    async with world(tmp_path, timeout=0.5) as copy, receiver(hang_once) as there, copy.delivering():
        await copy.service.add(there.url, ["*"])
        [message_id] = await copy.happened(completed())
        await copy.until(lambda: copy.kit.counts.attempts["delivered"] == 1)
        assert {one.message_id for one in there.deliveries} == {str(message_id)}
        assert copy.kit.counts.attempts["failed"] >= 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (500, "the receiver answered 500 Internal Server Error"),
        (404, "the receiver answered 404 Not Found"),
        (
            302,
            "the receiver answered 302 Found; redirects are not followed: give the address that it leads to",
        ),
        (0, "the connection broke"),
    ],
)
async def test_what_fails_for_too_long_is_parked_with_its_reason(
    tmp_path: Path, status: int, reason: str
) -> None:
    async with (
        world(tmp_path, retries=IMPATIENT) as copy,
        receiver(status, Location="/there") as there,
        copy.delivering(),
    ):
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        ids = await copy.happened(completed(), stop(1))
        await copy.until(lambda: len(copy.service.parked(webhook_id)) == 2)
        parked = copy.service.parked(webhook_id)
        assert [one.message_id for one in parked] == list(map(str, ids))
        assert [one.event_type for one in parked] == ["RunCompleted", "StopRequested"]
        assert parked[0].attempts >= 2
        assert parked[0].reason.startswith(reason)
        assert {one.path for one in there.deliveries} == {"/hook"}
        await copy.until(lambda: copy.kit.counts.parked == 2)


async def test_parked_deliveries_are_replayed_with_their_ids(tmp_path: Path) -> None:
    async with world(tmp_path, retries=IMPATIENT) as copy, receiver(503) as there, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        ids = [str(one) for one in await copy.happened(completed(), stop(1), stop(2))]
        await copy.until(lambda: len(copy.service.parked(webhook_id)) == 3)
        assert await copy.service.replay(webhook_id, [ids[2]]) == 1
        await copy.until(lambda: copy.service.parked(webhook_id)[2].attempts >= 4, timeout=10)
        assert not any(one.replaying for one in copy.service.parked(webhook_id)), "it failed again"
        there.status = 200
        assert await copy.service.replay(webhook_id) == 3
        await copy.until(lambda: copy.service.parked(webhook_id) == [])
        assert sorted(one.message_id for one in there.taken) == sorted(ids)
        await copy.until(lambda: copy.kit.counts.replayed == 3)


async def test_what_retention_has_removed_cannot_be_replayed(tmp_path: Path) -> None:
    async with world(tmp_path, retries=IMPATIENT) as copy, receiver(500) as there, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        await copy.happened(completed())
        await copy.until(lambda: len(copy.service.parked(webhook_id)) == 1)
        await copy.store.delete_stream(video_stream(completed().video_id))
        await copy.service.replay(webhook_id)
        await copy.until(lambda: "gone" in copy.service.parked(webhook_id)[0].reason)
        await copy.service.dismiss(webhook_id)
        assert copy.service.parked(webhook_id) == []


async def test_a_receiver_that_is_gone_gets_nothing_more_until_it_is_enabled(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver(410) as there, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        ids = [str(one) for one in await copy.happened(completed())]
        await copy.until(lambda: not copy.service.get(webhook_id).active)
        assert copy.service.get(webhook_id).disabled == "the receiver answered 410 Gone"
        ids += map(str, await copy.happened(stop(1)))
        there.status = 200
        assert len(there.deliveries) == 1
        await copy.service.enable(webhook_id)
        await there.until(lambda: len(there.taken) == 2)
        assert [one.message_id for one in there.taken] == ids


async def test_a_removed_webhook_gets_nothing_more(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver(500) as there, receiver() as other, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        await copy.service.add(other.url, ["*"])
        await copy.happened(completed())
        await there.until(lambda: len(there.deliveries) > 1)
        await copy.service.remove(webhook_id)
        assert await copy.secrets.target_of(webhook_id) is None
        await copy.happened(stop(1))
        await other.until(lambda: len(other.taken) == 2)
        there.status = 200
        await copy.happened(stop(2))
        await other.until(lambda: len(other.taken) == 3)
        assert there.taken == []


async def test_what_was_kept_of_a_removed_webhook_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver() as there, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        await copy.happened(completed())
        name = checkpoint_name(webhook_id)
        async with asyncio.timeout(30):
            while await StreamCheckpoints(copy.store).load(name) is None:
                await asyncio.sleep(0.05)
            await copy.service.remove(webhook_id)
            while await StreamCheckpoints(copy.store).load(name) is not None:
                await asyncio.sleep(0.05)
        await copy.happened(stop(1))
        assert len(there.taken) == 1


async def test_the_next_leader_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    store = MemoryEventStore()
    async with receiver() as there:
        async with world(tmp_path, store) as first, first.delivering():
            await first.service.add(there.url, ["*"])
            early = await first.happened(stop(1), stop(2))
            await there.until(lambda: len(there.taken) == 2)
        async with world(tmp_path, store) as second:
            late = await second.happened(stop(3))
            async with second.delivering():
                await there.until(lambda: there.taken[-1].message_id == str(late[0]))
    came = dict.fromkeys(one.message_id for one in there.taken)  # what was not known to be taken comes again
    assert list(came) == list(map(str, [*early, *late]))
    await store.close()


async def test_an_event_that_cannot_be_read_is_parked_and_holds_up_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as copy, receiver() as there, copy.delivering():
        webhook_id = (await copy.service.add(there.url, ["*"])).webhook.webhook_id
        torn = NewEvent(event_id=uuid4(), event_type="VideoSubmitted", data=b"{")
        await copy.store.append(frames_stream(new_id(), 0), [torn], expected_version=ANY)
        await copy.happened(completed())
        await there.until(lambda: len(there.taken) == 1)
        await copy.until(lambda: len(copy.service.parked(webhook_id)) == 1)
        assert "cannot be read" in copy.service.parked(webhook_id)[0].reason


async def test_an_unreachable_receiver_and_a_lost_secret_are_told(tmp_path: Path) -> None:
    async with world(tmp_path, retries=IMPATIENT) as copy, copy.delivering():
        webhook_id = (await copy.service.add(closed_url(), ["*"])).webhook.webhook_id
        await copy.happened(completed())
        await copy.until(lambda: len(copy.service.parked(webhook_id)) == 1)
        assert copy.service.parked(webhook_id)[0].reason.startswith("the receiver cannot be reached")
    async with world(tmp_path) as copy:
        lost = (await copy.service.add(closed_url(), ["*"])).webhook.webhook_id
        await copy.secrets.forget(lost)
        async with copy.delivering():
            await copy.until(lambda: not copy.service.get(lost).active)
        assert "secret is gone" in str(copy.service.get(lost).disabled)
