"""Given events of segments, when they expire, then which rows are left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import NewEvent, RecordedEvent
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.errors import FrameExpiredError, FrameNotSampledError
from monolith.domain.events import (
    DOMAIN_EVENTS,
    FramesDropped,
    SegmentClaimed,
    SegmentsExpired,
    SegmentsPurged,
    VideoDeleted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.segment import ExpiredModel, ExpiredRun, ExpiredSegment
from monolith.readmodels.expiries import Expiries, load_expiries
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import rebuild
from monolith.readmodels.results import ResultFilter, select_runs
from tests.builders import identity
from tests.readmodel_rows import count, rows
from tests.unit.readmodels.story import (
    OBJECTS,
    RUN,
    VIDEO,
    Streamed,
    analysed,
    completed,
    probed,
    stored,
    submitted,
    whole_video,
)

CODEC = EventCodec(DOMAIN_EVENTS)
EXPIRED_AT = 1_700_500_000.0
WAIT = 60.0


class World:
    """A store, and read models that follow it."""

    def __init__(
        self, folder: Path, store: MemoryEventStore, models: ReadModels, runner: ProjectionRunner
    ) -> None:
        self.folder = folder
        self.store = store
        self.models = models
        self.runner = runner

    async def given(self, streamed: Sequence[Streamed]) -> None:
        for stream, event in streamed:
            await self.store.append(stream, [CODEC.encode(event)], expected_version=ANY)
        await self.caught_up()

    async def caught_up(self) -> None:
        head = await self.store.head()
        assert head is not None
        await self.runner.wait_for(head, WAIT)

    async def assert_same_when_rebuilt(self) -> None:
        await self.models.clean()
        await rebuild(self.store, CODEC, self.folder / "rebuilt.db")
        assert rows(self.folder / "read.db") == rows(self.folder / "rebuilt.db")

    async def frames_in_results(self) -> list[int]:
        selection = select_runs(await self.models.video(VIDEO))
        page = await self.models.results_page(selection, ResultFilter(), base_url="http://x", limit=1000)
        found = msgspec.json.decode(b"[" + page.text + b"]")
        return [row["frame_number"] for row in found]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = MemoryEventStore()
    models = await ReadModels.open(tmp_path / "read.db", CODEC)
    async with ProjectionRunner(store, models.projection) as runner:
        yield World(tmp_path, store, models, runner)
    await models.close()


def expired(frames: int = 4, *, dropped: int = 0, segment: int = 0, run_id: str = RUN) -> Streamed:
    """As retention would sum up `whole_video`: frames 1 to `frames`."""
    sums = ExpiredSegment(
        segment=segment, first_frame=1, last_frame=frames + dropped, frames_stored=frames,
        decode_nanoseconds=500_000_000, resize_nanoseconds=250_000_000, encode_nanoseconds=125_000_000,
        last_event_at=EXPIRED_AT - 1,
        runs=(
            ExpiredRun(
                run_id=run_id, attempt=1, closed=True, frames=frames, dropped=dropped, greatest_frame=frames,
                models=(ExpiredModel(model=identity(OBJECTS), frames=frames, nanoseconds=frames * 10_000_000),),
            ),
        ),
    )  # fmt: skip
    event = SegmentsExpired(
        video_id=VIDEO, segments=(sums,), older_than=EXPIRED_AT - 0.5, expired_at=EXPIRED_AT
    )
    return video_stream(VIDEO), event


PURGED: Streamed = (
    video_stream(VIDEO), SegmentsPurged(video_id=VIDEO, segments=(0,), bytes_freed=9, purged_at=EXPIRED_AT + 1)
)  # fmt: skip


async def test_rows_go_and_sums_stay(world: World) -> None:
    await world.given(whole_video())
    before = await world.models.video(VIDEO)
    selection = select_runs(before)
    sums = await world.models.metrics(before, selection)
    await world.given([expired()])
    await world.models.clean()
    after = await world.models.video(VIDEO)
    assert (after.status, after.frames_stored, after.expired_segments, after.frames_expired) == (
        "Completed", 4, 1, 4,
    )  # fmt: skip
    assert (before.expired_segments, before.frames_expired) == (0, 0)
    assert after.runs == before.runs
    assert await world.models.metrics(after, selection) == sums
    assert await world.frames_in_results() == []
    found = rows(world.folder / "read.db")
    assert [count(found, table) for table in ("frames", "results", "dropped", "doomed")] == [0, 0, 0, 0]


async def test_a_frame_that_expired_says_when(world: World) -> None:
    await world.given([*whole_video(), expired()])
    video = await world.models.video(VIDEO)
    for number in (1, 3, 4):  # whether its row is still there or not
        with pytest.raises(FrameExpiredError, match="segment 0 of the video expired at 2023-11-20T17:06:40"):
            await world.models.frame(video, number)
    with pytest.raises(FrameNotSampledError):
        await world.models.frame(video, 5)


async def test_rebuilt_equals_live_before_between_and_after(world: World) -> None:
    await world.given(whole_video())
    await world.assert_same_when_rebuilt()
    await world.given([expired()])
    await world.assert_same_when_rebuilt()
    await world.store.tombstone_stream(frames_stream(VIDEO, 0))
    await world.assert_same_when_rebuilt()
    await world.store.tombstone_stream(results_stream(RUN, 0))
    await world.given([PURGED])
    await world.assert_same_when_rebuilt()


async def test_what_is_written_late_to_an_expired_segment_changes_nothing(world: World) -> None:
    """An attempt on its way out: before the expiry is decided (but after the sums), and after."""
    late = [stored([7]), analysed([7]), claimed(9)]
    await world.given([*whole_video(), *late, expired(), *[stored([8]), analysed([8])]])
    view = await world.models.video(VIDEO)
    assert (view.frames_stored, view.runs[0].frames_analyzed, view.runs[0].greatest_frame_analyzed) == (
        4,
        4,
        4,
    )
    await world.assert_same_when_rebuilt()
    for stream in (frames_stream(VIDEO, 0), results_stream(RUN, 0)):
        await world.store.tombstone_stream(stream)
    await world.given([PURGED])
    await world.assert_same_when_rebuilt()


def claimed(attempt: int) -> Streamed:
    event = SegmentClaimed(
        video_id=VIDEO, run_id=RUN, segment=0, attempt=attempt, owner="late", claimed_at=1.0
    )
    return results_stream(RUN, 0), event


async def test_poisonous_events_of_an_expired_segment_are_forgotten(world: World) -> None:
    await world.given(whole_video())
    poison = NewEvent(event_id=CODEC.encode(stored([1])[1]).event_id, event_type="FramesStored", data=b"[")
    await world.store.append(frames_stream(VIDEO, 0), [poison], expected_version=ANY)
    await world.caught_up()
    assert await world.models.parked_count() == 1
    await world.given([expired()])
    assert await world.models.parked_count() == 0
    for stream in (frames_stream(VIDEO, 0), results_stream(RUN, 0)):
        await world.store.tombstone_stream(stream)
    await world.given([PURGED])
    await world.assert_same_when_rebuilt()


async def test_dropped_frames_go_and_stay_counted(world: World) -> None:
    lost = FramesDropped(video_id=VIDEO, run_id=RUN, segment=0, frame_numbers=(5, 6), reason="damaged")
    story = [
        *submitted(),
        *probed(6),
        stored(range(1, 5)),
        (frames_stream(VIDEO, 0), lost),
        analysed(range(1, 5)),
    ]
    await world.given([*story, *completed(4, dropped=2)])
    await world.given([expired(4, dropped=2)])
    await world.models.clean()
    run = (await world.models.video(VIDEO)).runs[0]
    assert (run.frames_analyzed, run.frames_dropped) == (4, 2)
    assert count(rows(world.folder / "read.db"), "dropped") == 0
    with pytest.raises(FrameExpiredError):
        await world.models.frame(await world.models.video(VIDEO), 6)


async def test_a_deleted_video_takes_its_expiries_along(world: World) -> None:
    deleted = (video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0))
    await world.given([*whole_video(), expired(), deleted, PURGED])
    await world.models.clean()
    found = rows(world.folder / "read.db")
    assert {table for table in found if count(found, table)} == {"checkpoints", "meta", "sqlite_sequence"}


async def test_expiries_are_known_beforehand(world: World) -> None:
    assert len(await load_expiries(world.store, CODEC)) == 0
    await world.given([*whole_video(), expired(), expired(segment=3)])
    expiries = await load_expiries(world.store, CODEC)
    assert len(expiries) == 2
    assert [expiries.includes(VIDEO, segment) for segment in range(5)] == [True, False, False, True, False]
    assert not expiries.includes("another", 0)
    behind = await load_expiries(world.store, CODEC, after=await world.store.head())
    assert len(behind) == 0


async def test_an_expiry_that_cannot_be_read_is_left_out(world: World) -> None:
    class Refusing:
        def decode(self, recorded: RecordedEvent) -> msgspec.Struct:
            broken = msgspec.structs.replace(recorded, data=b"[")
            return CODEC.decode(broken)

    await world.given([*whole_video(), expired()])
    assert len(await load_expiries(world.store, Refusing())) == 0


def test_no_expiries() -> None:
    assert not Expiries().includes(VIDEO, 0)


async def test_many_expired_segments_of_one_event_go_as_one_range(world: World) -> None:
    await world.given(whole_video())
    (_, event) = expired()
    assert isinstance(event, SegmentsExpired)
    more = tuple(
        msgspec.structs.replace(
            event.segments[0], segment=n, first_frame=n * 10, last_frame=n * 10 + 5, runs=()
        )
        for n in range(1, 30)
    )
    many = msgspec.structs.replace(event, segments=(*event.segments, *more))
    await world.models._cleaner.stop()
    await world.given([(video_stream(VIDEO), many)])
    assert count(rows(world.folder / "read.db"), "doomed") == 3  # of frames, of results, of dropped
    async with asyncio.timeout(WAIT):
        await world.models.clean()
