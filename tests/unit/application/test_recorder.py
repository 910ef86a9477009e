from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import AppendResult, NewEvent
from eventsourcing.versions import ExpectedVersion
from monolith.application.recorder import SegmentRecorder
from monolith.application.segment_log import SegmentLog
from monolith.domain.commands import SubmitVideo
from monolith.domain.decisions import decide
from monolith.domain.events import DOMAIN_EVENTS, FramesDropped, RunRequested, frames_stream
from monolith.domain.jobs import SegmentJob
from monolith.domain.segment import StoredFrame
from monolith.domain.video import Video
from monolith.ingest.messages import FrameReady
from tests.builders import RUN, VIDEO, identity, submit

JOB = SegmentJob(VIDEO, RUN, 0)
CODEC = EventCodec(DOMAIN_EVENTS)


class HeldStore(MemoryEventStore):
    """Holds every append back while `open` is not set. Like a store with a writer of its own, it appends what it was
    given also where nobody waits for that any more."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()
        self._appends: set[asyncio.Task[AppendResult]] = set()

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        appended = asyncio.create_task(self._append(stream_name, events, expected_version))
        self._appends.add(appended)
        appended.add_done_callback(self._appends.discard)
        return await asyncio.shield(appended)

    async def _append(
        self, stream_name: str, events: Sequence[NewEvent], expected_version: ExpectedVersion
    ) -> AppendResult:
        if not self.open.is_set():
            self.waiting.set()
            await self.open.wait()
        return await super().append(stream_name, events, expected_version=expected_version)


@pytest.fixture
async def store() -> HeldStore:
    return HeldStore()


def ready(number: int) -> FrameReady:
    frame = StoredFrame(
        frame_number=number, timestamp=float(number), offset=number, length=1, width=64, height=48
    )
    return FrameReady(number, frame, 0.0, 0.0, 0.0)


def run() -> RunRequested:
    command = submit()
    assert isinstance(command, SubmitVideo)
    requested = decide(Video(), command)[1]
    assert isinstance(requested, RunRequested)
    return requested


async def live_recorder(store: HeldStore) -> SegmentRecorder:
    log = await SegmentLog.open(store, CODEC, JOB)
    await log.claim("test", 1.0)
    identities = {"objects_detection": identity()}
    return SegmentRecorder(log, run(), "pack", identities, at_once=True)


async def cut_off_in_the_midst_of_an_append(store: HeldStore, recorder: SegmentRecorder) -> None:
    store.open.clear()
    writer = asyncio.create_task(recorder.write())
    await store.waiting.wait()
    writer.cancel()
    await asyncio.sleep(0)
    store.open.set()
    await asyncio.wait([writer])
    assert writer.cancelled()


async def test_of_frames_whose_writer_is_cut_off_none_is_forgotten(store: HeldStore) -> None:
    recorder = await live_recorder(store)
    for number in range(1, 6):
        await recorder.frame(ready(number))
    recorder.synced(3)
    await cut_off_in_the_midst_of_an_append(store, recorder)
    await recorder.save("lost with the connection")
    log = await SegmentLog.open(store, CODEC, JOB)
    assert (set(log.stored), log.given_up()) == ({1, 2, 3}, {4, 5})


async def test_losses_of_one_reason_are_one_event(store: HeldStore) -> None:
    recorder = await live_recorder(store)
    writer = asyncio.create_task(recorder.write())
    for number in range(1, 51):
        recorder.lost((number,), "damaged" if number == 7 else "late")
        await asyncio.sleep(0)
    recorder.end()
    await writer
    events = [CODEC.decode(event) for event in await store.read_stream(frames_stream(VIDEO, 0))]
    dropped = {event.reason: event.frame_numbers for event in events if isinstance(event, FramesDropped)}
    assert len(events) == 3
    assert dropped == {"damaged": (7,), "late": tuple(number for number in range(1, 51) if number != 7)}


async def test_losses_are_written_though_nothing_else_is(store: HeldStore) -> None:
    recorder = await live_recorder(store)
    writer = asyncio.create_task(recorder.write())
    recorder.lost((1,), "late")
    async with asyncio.timeout(60):
        while not recorder.log.given_up():
            await asyncio.sleep(0.01)
    recorder.end()
    await writer


async def test_of_losses_whose_writer_is_cut_off_none_is_forgotten(store: HeldStore) -> None:
    recorder = await live_recorder(store)
    for number in range(1, 4):
        recorder.lost((number,), f"late by {number} s")
    await cut_off_in_the_midst_of_an_append(store, recorder)
    await recorder.save("lost with the connection")
    log = await SegmentLog.open(store, CODEC, JOB)
    assert log.given_up() == {1, 2, 3}
