"""Several copies of the real program on one event store, one shared folder and, if wanted, one RabbitMQ."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any

import httpx

from tests.peers.kurrentdb.process import KurrentProcess, kurrent_process
from tests.program import Server


class Copies:
    """`rabbitmq`: the address for each copy; none: they have none."""

    def __init__(
        self, folder: Path, store: KurrentProcess, count: int, rabbitmq: list[str], settings: dict[str, str]
    ) -> None:
        self.store = store
        self._folder = folder
        self._settings = {
            "PRECISION": "f32",
            "KURRENTDB_URI": store.uri,
            "SHARED_DIR": str(folder / "shared"),
            "WORKERS": "1",
            **settings,
        }
        self.servers: list[Server] = []
        for number in range(count):
            self.add(RABBITMQ_URL=rabbitmq[number] if rabbitmq else "")

    def add(self, **settings: str) -> Server:
        """One more copy, not started."""
        own = self._folder / f"copy-{len(self.servers)}"
        own.mkdir()
        server = Server(own, **{**self._settings, **settings})
        self.servers.append(server)
        return server

    async def leader(self) -> Server:
        """The copy that says it leads, and has said nothing else since."""
        async with asyncio.timeout(60):
            while True:
                for server in self.servers:
                    told = server.output
                    if told.rfind("is now the leader") > told.rfind("is no longer the leader"):
                        return server
                await asyncio.sleep(0.1)


def copies(
    folder: Path, count: int, rabbitmq: list[str] | None = None, **settings: str
) -> AbstractAsyncContextManager[Copies]:
    """All of them ready."""
    return copies_started(folder, count, rabbitmq, settings, lambda number: nullcontext())


@asynccontextmanager
async def copies_started(
    folder: Path,
    count: int,
    rabbitmq: list[str] | None,
    settings: dict[str, str],
    within: Callable[[int], AbstractContextManager[None]],
) -> AsyncIterator[Copies]:
    """All of them ready. `within`: entered while the copy of this number is started."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(kurrent_process(folder))
        running = Copies(folder, store, count, rabbitmq or [], settings)
        for number, server in enumerate(running.servers):
            with within(number):
                await server.start(wait=False)
            stack.push_async_exit(server.__aexit__)
        for server in running.servers:
            await server.until_ready()
        yield running


async def until(condition: Callable[[], Awaitable[bool]], timeout: float = 60) -> None:
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.1)


async def known(client: httpx.AsyncClient, video_id: str) -> None:
    """Until this copy's read models know the video."""

    async def is_known() -> bool:
        return (await client.get(f"/analysis/{video_id}")).status_code == 200

    await until(is_known)


async def events_of(client: httpx.AsyncClient, video_id: str) -> list[dict[str, Any]]:
    """All events of the video, in commit order."""
    events: list[dict[str, Any]] = []
    while True:
        after = {"after": events[-1]["commit_position"]} if events else {}
        page = (await client.get(f"/analysis/{video_id}/events", params={"limit": 500, **after})).json()
        events += page
        if len(page) < 500:
            return events


def assert_nothing_twice(events: list[dict[str, Any]]) -> None:
    """Each frame is stored once, judged once by each model, each segment closed once."""
    seen: Counter[tuple[Any, ...]] = Counter()
    for event in events:
        data = event["data"]
        match event["event_type"]:
            case "FramesStored":
                seen.update(("stored", frame[0]) for frame in data["frames"])
            case "FramesAnalysed":
                seen.update((data["model"]["key"], frame[0]) for frame in data["frames"])
            case "SegmentClosed" | "SegmentCompleted" | "RunCompleted":
                seen[(event["event_type"], data.get("segment"))] += 1
    assert seen
    assert {what: count for what, count in seen.items() if count > 1} == {}


def claimants(events: list[dict[str, Any]]) -> Counter[str]:
    """Owner → how many attempts at segments it began."""
    return Counter(
        event["data"]["owner"]
        for event in events
        if event["event_type"] == "SegmentClaimed" and event["stream_name"].startswith("results-")
    )
