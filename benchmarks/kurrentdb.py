"""What the KurrentDB adapter adds to its driver: processor time for the same appends and the same subscription.

python -m benchmarks.kurrentdb

The bare driver (`kurrentdbclient`) and the adapter do the same work by turns, each in a process of its own, against the
protocol server of the tests, in a third one: what a database would need is in none of the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from kurrentdbclient import AsyncKurrentDBClient, StreamState
from kurrentdbclient import NewEvent as ClientEvent

from eventsourcing.adapters.kurrentdb import KurrentDbEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import CaughtUp, NewEvent
from eventsourcing.versions import NO_STREAM
from tests.peers.kurrentdb.serving import uri_of

STREAMS: Final = 32
"""Written at the same time, each by one writer, as those of segments are."""
EVENTS: Final = 100
"""Of each stream, appended one by one at the exact version."""
ROUNDS: Final = 4
_PREFIX: Final = "results-"


async def run() -> dict[str, float]:
    """Microseconds of processor time an event, bare and ours: the least of some rounds; and what ours adds."""
    rounds: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    for number in range(ROUNDS):
        for kind in ("bare", "ours") if number % 2 else ("ours", "bare"):
            rounds[kind].append(await asyncio.to_thread(_measured, kind))
    best = {
        f"{kind}_{step}_us": min(one[step] for one in measured)
        for kind, measured in rounds.items()
        for step in ("append", "subscribe")
    }
    bare, ours = (best[f"{kind}_append_us"] + best[f"{kind}_subscribe_us"] for kind in ("bare", "ours"))
    return {**best, "added_share": ours / bare - 1}


def _measured(kind: str) -> dict[str, float]:
    """In a process of its own, against a server of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.peers.kurrentdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        uri = uri_of(int(server.stdout.readline()))
        command = [sys.executable, "-m", "benchmarks.kurrentdb", kind, uri]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        if server.stdin is not None:
            server.stdin.close()
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of processor time of this process, all threads, an event."""
    started = time.process_time()
    await work()
    return (time.process_time() - started) / (STREAMS * EVENTS) * 1e6


def _events() -> list[list[NewEvent]]:
    from benchmarks.event_store import FramesSeen, sample

    codec = EventCodec([FramesSeen])
    return [
        [codec.encode(sample(number), metadata={"correlation_id": "a-video"}) for number in range(EVENTS)]
        for _ in range(STREAMS)
    ]


async def _at_once(write: Callable[[int], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(STREAMS):
            tasks.create_task(_done(write(number)))


async def _done(work: Awaitable[None]) -> None:
    await work


async def _bare(uri: str) -> dict[str, float]:
    client = AsyncKurrentDBClient(uri)
    await client.get_commit_position()
    events = [[_for_client(event) for event in stream] for stream in _events()]

    async def write(number: int) -> None:
        for version, event in enumerate(events[number]):
            await client.append_to_stream(
                f"{_PREFIX}{number}",
                events=[event],
                current_version=version - 1 if version else StreamState.NO_STREAM,
                timeout=15,
            )

    async def follow() -> None:
        subscription = await client.subscribe_to_all(
            filter_include=(_PREFIX,), filter_by_stream_name=True, filter_by_prefix=True, filter_exclude=()
        )
        count = 0
        async for _ in subscription:
            count += 1
            if count == STREAMS * EVENTS:
                break
        await subscription.stop()

    figures = {"append": await _timed(lambda: _at_once(write)), "subscribe": await _timed(follow)}
    await client.close()
    return figures


def _for_client(event: NewEvent) -> ClientEvent:
    metadata = json.dumps(dict(event.metadata)).encode()
    return ClientEvent(type=event.event_type, data=event.data, metadata=metadata, id=event.event_id)


async def _ours(uri: str) -> dict[str, float]:
    store = await KurrentDbEventStore.open(uri)
    events = _events()

    async def write(number: int) -> None:
        for version, event in enumerate(events[number]):
            expected = version - 1 if version else NO_STREAM
            await store.append(f"{_PREFIX}{number}", [event], expected_version=expected)

    async def follow() -> None:
        count = 0
        async with store.subscribe(prefixes=[_PREFIX]) as items:
            async for item in items:
                count += 0 if isinstance(item, CaughtUp) else len(item)
                if count == STREAMS * EVENTS:
                    break

    figures = {"append": await _timed(lambda: _at_once(write)), "subscribe": await _timed(follow)}
    await store.close()
    return figures


def main() -> None:
    if len(sys.argv) == 3:
        kind, uri = sys.argv[1:]
        print(json.dumps(asyncio.run((_ours if kind == "ours" else _bare)(uri))))
        sys.stdout.flush()
        os._exit(0)  # gRPC's threads need no farewell
    for name, figure in asyncio.run(run()).items():
        print(f"{name:>20} {figure:>12,.3f}")


if __name__ == "__main__":
    main()
