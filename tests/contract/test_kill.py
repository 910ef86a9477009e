"""What was acknowledged outlives `kill -9`: a real child process, a real file."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.events import RecordedEvent
from tests.contract._appender import DELETED_STREAM, size_of
from tests.contract.helpers import WAIT


async def append_until_killed(path: Path, round_number: int, seconds: float) -> list[list[str]]:
    """Acknowledged appends: of each, the stream and the ids of its events."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract._appender", str(path), str(round_number),
        stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        async with asyncio.timeout(WAIT):
            lines = [await child.stdout.readline()]  # it has begun
        reading = asyncio.create_task(child.stdout.read())
        await asyncio.sleep(seconds)
    finally:
        child.kill()
        await child.wait()
    lines += (await reading).splitlines(keepends=True)
    return [line.decode().split() for line in lines if line.endswith(b"\n")]


async def stored(path: Path) -> list[RecordedEvent]:
    store = await SqliteEventStore.open(path)
    try:
        return await store.read_all(limit=1_000_000)
    finally:
        await store.close()


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
async def test_every_acknowledged_event_is_there_once(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(rounds)
    path = tmp_path / "events.db"
    acknowledged: list[list[str]] = []
    newest = 0
    for number in range(rounds):
        acknowledged += await append_until_killed(path, number, rng.uniform(0.05, 0.5))
        log = await stored(path)
        check(log, acknowledged)
        assert log[-1].commit_position > newest
        newest = log[-1].commit_position


def check(log: list[RecordedEvent], acknowledged: list[list[str]]) -> None:
    ids = {event.event_id.hex for event in log}
    assert len(ids) == len(log)
    lost = [
        append for append in acknowledged if append[0] != DELETED_STREAM and not ids.issuperset(append[1:])
    ]
    assert not lost
    positions: dict[str, list[int]] = defaultdict(list)
    for event in log:
        positions[event.stream_name].append(event.stream_position)
    for stream_name, found in positions.items():
        first = found[0] if stream_name == DELETED_STREAM else 0
        assert found == list(range(first, first + len(found)))
    for text, count in Counter(event.data.decode() for event in log).items():
        assert count == size_of(int(text.rpartition(".")[2])), f"append {text} is not whole"
