"""Figures of the SQLite event store, with events of about 1 KB that carry what a model saw in three frames.

python -m benchmarks.event_store
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY

CONCURRENCY = 128
APPENDS = 60_000
PAGE = 250


class Detection(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="object"):
    class_id: int
    class_name: str
    confidence: float
    xyxy: tuple[float, float, float, float]


class FrameAnalysis(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    frame_number: int
    timestamp: float
    seconds: float
    detections: tuple[Detection, ...]


class FramesSeen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Like the program's FramesAnalysed, but no part of it: figures stay comparable when that one changes."""

    run_id: str
    model: str
    digest: str
    frames: tuple[FrameAnalysis, ...]


def sample(number: int) -> FramesSeen:
    """An event of about 1 KB: three frames, two objects each."""
    return FramesSeen(
        run_id="0190163d-8694-739b-aea5-966c26f8ad91",
        model="objects_detection",
        digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        frames=tuple(_frame(3 * number + index) for index in range(3)),
    )


def _frame(number: int) -> FrameAnalysis:
    shift = number % 200
    return FrameAnalysis(
        frame_number=number,
        timestamp=round(number / 25, 3),
        seconds=0.0104,
        detections=(
            Detection(
                class_id=2, class_name="car", confidence=0.8137, xyxy=(101.5 + shift, 88.2, 340.9, 201.4)
            ),
            Detection(
                class_id=0, class_name="person", confidence=0.644, xyxy=(12.1, 60.3 + shift, 44.7, 190.8)
            ),
        ),
    )


async def run() -> dict[str, float]:
    """Events per second: appended one by one, appended at 128 concurrent calls, read, read and decoded; and the
    median milliseconds from an append to its subscriber."""
    codec = EventCodec([FramesSeen])
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteEventStore.open(Path(folder) / "events.db")
        try:
            return await _measure(store, codec)
        finally:
            await store.close()


async def _measure(store: SqliteEventStore, codec: EventCodec) -> dict[str, float]:
    figures = {"bytes_per_event": float(len(codec.encode(sample(1)).data))}
    serial = [codec.encode(sample(number)) for number in range(3_000)]
    figures["appended_one_by_one_per_s"] = await _rate(
        len(serial), lambda: _append(store, "serial-1", serial)
    )
    events = [codec.encode(sample(number)) for number in range(APPENDS)]
    figures["appended_at_128_per_s"] = await _rate(APPENDS, lambda: _append_concurrently(store, events))
    total = APPENDS + len(serial)
    figures["read_per_s"] = await _best(total, lambda: _read(store, None))
    figures["read_and_decoded_per_s"] = await _best(total, lambda: _read(store, codec))
    figures["append_to_subscriber_ms"] = await _latency(store, events[0])
    return figures


async def _rate(count: int, work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return count / (time.perf_counter() - started)


async def _best(count: int, work: Callable[[], Awaitable[None]], times: int = 3) -> float:
    return max([await _rate(count, work) for _ in range(times)])


async def _append(store: SqliteEventStore, stream_name: str, events: list[NewEvent]) -> None:
    for event in events:
        await store.append(stream_name, [event], expected_version=ANY)


async def _append_concurrently(store: SqliteEventStore, events: list[NewEvent]) -> None:
    """Each task has a stream of its own, as each segment of each run has."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(CONCURRENCY):
            tasks.create_task(_append(store, f"results-run-{number:03}", events[number::CONCURRENCY]))


async def _read(store: SqliteEventStore, codec: EventCodec | None) -> None:
    after: int | None = None
    while page := await store.read_all(after=after, limit=PAGE):
        if codec is not None:
            codec.decode_all(page)
        after = page[-1].commit_position


async def _latency(store: SqliteEventStore, event: NewEvent, times: int = 300) -> float:
    """Median milliseconds from the call of append to the event in a waiting subscriber's hands."""
    codec = EventCodec([FramesSeen])
    waits: list[float] = []
    async with store.subscribe(after=await store.head()) as items:
        await anext(items)
        for number in range(times):
            started = time.perf_counter()
            await store.append("live-1", [codec.encode(sample(number))], expected_version=ANY)
            await anext(items)
            waits.append(time.perf_counter() - started)
            await anext(items)
    return sorted(waits)[times // 2] * 1e3


def main() -> None:
    for name, figure in asyncio.run(run()).items():
        print(f"{name:>28} {figure:>12,.2f}")


if __name__ == "__main__":
    main()
