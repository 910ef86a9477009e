"""Webhooks of copies that share an event store: one sends, the next goes on when it is gone; on SQLite, too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from eventsourcing.adapters.kurrentdb import KurrentDbEventStore
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.leases import Leases
from eventsourcing.store import EventStore
from monolith.application.leadership import LeasedLeadership
from tests.peers.kurrentdb.process import kurrent_process
from tests.peers.receiver import Receiver, receiver
from tests.unit.webhooks.world import World, stop, world


@asynccontextmanager
async def copy_on(folder: Path, uri: str, name: str) -> AsyncIterator[tuple[World, LeasedLeadership]]:
    """A copy of the program that may lead."""
    async with AsyncExitStack() as stack:
        store = await KurrentDbEventStore.open(uri)
        stack.push_async_callback(store.close)
        here = await stack.enter_async_context(world(folder, store))
        leases = Leases(store, clock=time.time)
        leadership = await stack.enter_async_context(
            LeasedLeadership(leases, "process-manager", name, ttl=1.5)
        )
        await stack.enter_async_context(here.delivering(leadership))
        yield here, leadership


async def test_another_copy_goes_on_when_the_one_that_sends_ends(tmp_path: Path) -> None:
    async with kurrent_process(tmp_path) as server, receiver() as there:
        async with copy_on(tmp_path, server.uri, "first") as (first, leads):
            await leads.wait_for(True)
            async with copy_on(tmp_path, server.uri, "second") as (second, other_leads):
                added = await second.service.add(there.url, ["*"])
                early = await second.happened(*(stop(number) for number in range(5)))
                await there.until(lambda: len(there.taken) >= 5)
                assert not other_leads.leads
                await first.service.test(added.webhook.webhook_id)
        late = []
        async with copy_on(tmp_path, server.uri, "third") as (third, third_leads):
            await third_leads.wait_for(True)
            late += await third.happened(stop(5), stop(6))
            await there.until(lambda: there.taken[-1].message_id == str(late[-1]))
        ids = [one.message_id for one in there.taken if one.event != "WebhookTest"]
        assert list(dict.fromkeys(ids)) == [str(one) for one in [*early, *late]]
        assert all(one.is_signed_by(added.secret) for one in there.taken)


async def test_a_store_that_goes_away_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    async with kurrent_process(tmp_path) as server, receiver() as there:
        async with copy_on(tmp_path, server.uri, "only") as (copy, leads):
            await leads.wait_for(True)
            await copy.service.add(there.url, ["*"])
            ids = await copy.happened(*(stop(number) for number in range(20)))
            await there.until(lambda: len(there.taken) >= 3)
            await server.kill()
            await server.start()
            await there.until(lambda: len({one.message_id for one in there.taken}) == 20, timeout=90)
        came = list(dict.fromkeys(one.message_id for one in there.taken))
        assert came == [str(one) for one in ids]


async def test_checkpoints_lie_in_the_store(tmp_path: Path) -> None:
    path, events = tmp_path / "events.db", 20
    async with receiver() as there:
        for turn in range(3):
            store: EventStore = await SqliteEventStore.open(path)
            async with world(tmp_path, store) as copy, copy.delivering():
                if turn == 0:
                    await copy.service.add(there.url, ["*"])
                await copy.happened(*(stop(turn * events + number) for number in range(events)))
                await there.until(_has(there, (turn + 1) * events))
            await store.close()
        numbers = [one.body["data"]["requested_at"] for one in there.taken]
        assert list(dict.fromkeys(numbers)) == [float(number) for number in range(3 * events)]
        assert len(numbers) < 3 * events + 3, "only what was on its way comes again"


def _has(there: Receiver, count: int) -> Callable[[], bool]:
    return lambda: len({one.message_id for one in there.taken}) >= count
