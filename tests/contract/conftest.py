"""The event stores that the contract is checked on. Another adapter is one more entry in `STORES`.

KurrentDB: the protocol server in `tests/peers/kurrentdb`, over gRPC on loopback; the server at `KURRENTDB_URI`, where
that is set, too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from eventsourcing.adapters.kurrentdb import KurrentDbEventStore
from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.store import EventStore
from tests.contract.namespaced import NamespacedStore
from tests.peers.kurrentdb.serving import serving

PAGE = 7
"""Small pages, so that a few events already take several."""


class Traits(NamedTuple):
    """Where stores may differ. `knows_ids`: of all events, wherever they are used again; `forgets_at_once`: what is
    removed is gone from reads of everything, and of the stream's version only the positions go on."""

    knows_ids: bool
    forgets_at_once: bool


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[EventStore]:
    yield MemoryEventStore(page_size=PAGE)


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[EventStore]:
    yield await SqliteEventStore.open(folder / "events.db", page_size=PAGE)


@asynccontextmanager
async def _kurrentdb(folder: Path) -> AsyncIterator[EventStore]:
    async with serving() as uri:
        yield await KurrentDbEventStore.open(uri, page_size=PAGE)


@asynccontextmanager
async def _kurrentdb_server(folder: Path) -> AsyncIterator[EventStore]:
    store = await KurrentDbEventStore.open(os.environ["KURRENTDB_URI"], page_size=PAGE)
    yield NamespacedStore(store, f"contract-{uuid4().hex}-")


STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[EventStore]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "kurrentdb": _kurrentdb,
}
if "KURRENTDB_URI" in os.environ:
    STORES["kurrentdb-server"] = _kurrentdb_server


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    async with STORES[request.param](tmp_path) as opened:
        yield opened
        await opened.close()


@pytest.fixture
def traits(store: EventStore) -> Traits:
    shared = isinstance(store, KurrentDbEventStore | NamespacedStore)
    return Traits(knows_ids=not shared, forgets_at_once=not shared)
