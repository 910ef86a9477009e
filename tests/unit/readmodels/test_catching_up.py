"""A long catch-up is told in the log, and only standing still is a failure."""

from __future__ import annotations

import asyncio
import re

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.projection import ProjectionRunner
from monolith.readmodels.catching_up import caught_up
from tests.contract.helpers import WAIT, put


class Slow:
    """Takes one event whenever it is told to."""

    name = "rows"
    prefixes = ()

    def __init__(self) -> None:
        self.steps = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def apply(self, events: list[RecordedEvent]) -> None:
        if self.error is not None:
            raise self.error
        for _ in events:
            await self.steps.acquire()

    async def checkpoint(self) -> int | None:
        return None

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        raise AssertionError("nothing is parked here")


async def filled(events: int) -> MemoryEventStore:
    """Commit positions from 1."""
    store = MemoryEventStore()
    for number in range(events):
        await put(store, f"s-{number}", "x")
    return store


async def test_how_far_it_is_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store, rows = await filled(20), Slow()
    async with ProjectionRunner(store, rows, batch_size=1) as runner:
        waiting = asyncio.create_task(caught_up(runner, await store.head() or 0, every=0.01, patience=WAIT))
        for steps, told in (
            (10, "rows: catching up, 0% of 20 events, 0 a second"),
            (10, r"rows: catching up, \d+% of 20 events, \d+ a second, about \d+ s left"),
        ):
            async with asyncio.timeout(WAIT):
                while not re.search(told, caplog.text):
                    await asyncio.sleep(0.005)
            for _ in range(steps):
                rows.steps.release()
        await waiting
    assert "rows: caught up with 20 events" in caplog.text


async def test_nothing_is_said_when_there_is_little(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store, rows = await filled(3), Slow()
    rows.steps = asyncio.Semaphore(3)
    async with ProjectionRunner(store, rows) as runner:
        await caught_up(runner, await store.head() or 0)
    assert "caught up" not in caplog.text


async def test_standing_still_is_a_failure() -> None:
    store, rows = await filled(3), Slow()
    rows.error = StoreUnavailableError("the disk is full")
    async with ProjectionRunner(store, rows) as runner:
        with pytest.raises(TimeoutError):
            await caught_up(runner, await store.head() or 0, every=0.01, patience=0.02)
