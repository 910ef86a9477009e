"""The event stores that the contract is checked on. Another adapter is one more entry in `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.store import EventStore

PAGE = 7
"""Small pages, so that a few events already take several."""


async def _memory(folder: Path) -> EventStore:
    return MemoryEventStore(page_size=PAGE)


async def _sqlite(folder: Path) -> EventStore:
    return await SqliteEventStore.open(folder / "events.db", page_size=PAGE)


STORES: dict[str, Callable[[Path], Awaitable[EventStore]]] = {"memory": _memory, "sqlite": _sqlite}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    opened = await STORES[request.param](tmp_path)
    yield opened
    await opened.close()
