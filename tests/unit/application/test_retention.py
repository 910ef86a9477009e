"""Retention over events, files and read models that are real, and a process that may end at any write."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY
from monolith.application import expiring
from monolith.application.purge_watch import PurgeWatch
from monolith.application.retention_report import RetentionReport, RetentionRequest
from monolith.domain.errors import InvalidRequestError, NotPossibleError
from monolith.domain.events import (
    RunCancelled,
    SegmentsExpired,
    SegmentsPurged,
    frames_stream,
    video_stream,
)
from monolith.domain.segment import ExpiredSegment
from monolith.storage import RetentionFile
from tests.histories import (
    JPEG_BYTES,
    Fate,
    RunStory,
    SegmentStory,
    Step,
    VideoStory,
    events_of,
    histories,
)
from tests.readmodel_rows import Rows
from tests.unit.application.retention_world import CODEC, World
from tests.unit.application.scripted import Crash

_POSITIONS = {"commit_position", "submitted_position"}


def without_positions(found: Rows) -> Rows:
    """An interruption may change when a purge is recorded, and with it positions of later events."""
    kept: Rows = {}
    for table, (columns, *body) in found.items():
        places = [i for i, column in enumerate(columns) if column not in _POSITIONS]
        kept[table] = sorted((tuple(row[i] for i in places) for row in body), key=repr)
    return kept


def columns(found: Rows, table: str, *names: str) -> list[tuple[object, ...]]:
    head, *body = found[table]
    places = [head.index(name) for name in names]
    return sorted((tuple(row[i] for i in places) for row in body), key=repr)


def totals(found: Rows) -> list[list[tuple[object, ...]]]:
    """The sums that users see: retention changes none."""
    return [
        columns(found, "videos", "video_id", "frames_stored", "decode_nanoseconds", "resize_nanoseconds",
                "encode_nanoseconds", "status", "frames_total"),
        columns(found, "runs", "run_id", "frames_analyzed", "frames_dropped", "greatest_frame", "coverage", "status"),
        columns(found, "run_models", "run_no", "model_no", "identity", "frames", "nanoseconds"),
    ]  # fmt: skip


async def without_order(world: World) -> dict[str, list[str]]:
    """What the streams hold: whether a purge is recorded before the next expiry depends on the interruptions."""
    return {stream: sorted(types) for stream, types in (await world.streams()).items()}


async def undisturbed(world: World, history: Sequence[tuple[float, Step]], days: float) -> RetentionReport:
    await world.happen(history)
    world.days_later(30)
    before = await world.rows()
    assert before == await world.rebuilt_rows()
    report = await world.let_go(days)
    after = await world.rows()
    assert after == await world.rebuilt_rows()
    assert report.state == "done"
    assert report.purged == report.segments
    assert totals(after) == totals(before)
    return report


@settings(max_examples=25, deadline=None)
@given(history=histories(), days=st.sampled_from((0.5, 2.0, 30.0)), data=st.data())
def test_a_retention_that_is_killed_and_run_again_ends_like_an_undisturbed_one(
    history: list[tuple[float, Step]], days: float, data: st.DataObject
) -> None:
    async def run(folder: Path) -> None:
        whole, broken = World(folder / "whole"), World(folder / "broken")
        await undisturbed(whole, history, days)
        await broken.happen(history)
        broken.days_later(30)
        seen = data.draw(
            st.sampled_from(range(9)), label="eighths of the events that the lagging projection has seen"
        )
        await broken.lag(len(history) * seen // 8)
        await crashing(broken, days, data)
        assert (await broken.let_go(days)).state == "done"
        assert (await broken.let_go(days)).segments == 0
        live = await broken.rows()
        assert live == await broken.rebuilt_rows()
        assert live == await broken.rows("lagging.db")
        assert live == await broken.rows("fresh.db")
        assert without_positions(live) == without_positions(await whole.rows())
        assert await without_order(broken) == await without_order(whole)
        assert broken.files() == whole.files()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(expiring, "SEGMENTS_AN_EVENT", 2)
        asyncio.run(run(Path(folder)))


async def crashing(world: World, days: float, data: st.DataObject) -> None:
    """Kill it at some writes; the read models agree with rebuilt ones in between."""
    for _ in range(data.draw(st.integers(0, 3), label="crashes")):
        world.fuse.after = data.draw(st.booleans(), label="after the write")
        with contextlib.suppress(Crash):
            await world.let_go(days, crash_at=data.draw(st.integers(0, 12), label="writes before"))
        if data.draw(st.booleans(), label="compare in between"):
            assert await world.rows() == await world.rebuilt_rows()


# Given what was analysed and when, then what goes.

RUN_OF_ALL = SegmentStory(interruptions=0, reached="completed", dropped=frozenset(), failed=False)
INTERRUPTED = SegmentStory(interruptions=1, reached="half", dropped=frozenset(), failed=True)
UNTOUCHED = SegmentStory(interruptions=0, reached="nothing", dropped=frozenset(), failed=False)


def story(
    *segments: SegmentStory, fate: Fate = "completed", number: int = 1, live: bool = False
) -> VideoStory:
    run = RunStory(("objects_detection",), fate, segments)
    return VideoStory(number=number, live=live, frames=4, step=1, runs=(run,))


def on_day(day: float, told: VideoStory) -> list[tuple[float, Step]]:
    return [(day, step) for step in events_of(told)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


async def expired_of(world: World, told: VideoStory) -> list[int]:
    async with world.living() as life:
        return sorted((await life.streams.load(told.video_id)).expired)


async def test_what_is_older_goes_and_what_is_younger_stays(world: World) -> None:
    old, young = story(RUN_OF_ALL, RUN_OF_ALL), story(RUN_OF_ALL, number=2)
    await world.happen([*on_day(0, old), *on_day(5, young)])
    world.days_later(1)
    report = await world.let_go(2)
    assert (report.videos, report.segments, report.frames, report.bytes_freed) == (1, 2, 8, 8 * JPEG_BYTES)
    assert [(share.video_id, share.video_name, share.segments) for share in report.by_video] == [
        (old.video_id, "video 1", 2)
    ]
    assert await expired_of(world, young) == []
    assert all(young.video_id in name for name in world.files())


async def test_analytics_files_are_counted_whoever_removes_them(world: World) -> None:
    told = story(RUN_OF_ALL, RUN_OF_ALL)
    await world.happen(on_day(0, told))
    folder = world.folder / "analytics" / told.video_id / told.run_id(0)
    folder.mkdir(parents=True)
    for name, size in (("000000.parquet", 30), ("group-000000-000001.parquet", 500)):
        (folder / name).write_bytes(bytes(size))
    world.days_later(3)
    report = await world.let_go(2)
    assert report.bytes_freed == 8 * JPEG_BYTES + 530
    assert report.by_video[0].bytes_freed == report.bytes_freed
    assert not folder.exists()


async def test_the_newest_event_counts_wherever_it_is(world: World) -> None:
    """The segments are old, but a second run completed one of them yesterday."""
    told = story(RUN_OF_ALL, RUN_OF_ALL)
    late = RunStory(("color_detection",), "cancelled", (RUN_OF_ALL, UNTOUCHED))
    both = VideoStory(number=1, live=False, frames=4, step=1, runs=(*told.runs, late))
    history = events_of(both)
    first = len(events_of(told))
    days = [(0.0, step) for step in history[:first]] + [(9.0, step) for step in history[first:]]
    await world.happen(days)
    world.days_later(1)
    assert (await world.let_go(2)).segments == 0  # the second run's end concerns what it never completed
    world.days_later(2)
    assert (await world.let_go(2)).segments == 2


async def test_an_interrupted_run_that_is_over_keeps_nothing(world: World) -> None:
    told = story(RUN_OF_ALL, INTERRUPTED, UNTOUCHED, fate="failed")
    await world.happen(on_day(0, told))
    world.days_later(3)
    report = await world.let_go(2)
    assert (report.segments, report.frames) == (3, 8)
    assert world.files() == []


async def test_a_run_that_goes_on_keeps_what_it_has_not_completed(world: World) -> None:
    told = story(RUN_OF_ALL, INTERRUPTED, UNTOUCHED, fate="active")
    await world.happen(on_day(0, told))
    world.days_later(3)
    assert (await world.let_go(2)).segments == 1
    assert await expired_of(world, told) == [0]
    assert world.files()


async def test_a_live_video_loses_its_old_segments_while_it_goes_on(world: World) -> None:
    told = story(RUN_OF_ALL, RUN_OF_ALL, RUN_OF_ALL, fate="active", live=True)
    history = events_of(told)
    await world.happen([(number / 4, step) for number, step in enumerate(history)])
    report = await world.let_go(2.5)
    assert 0 < report.segments < 3
    assert await expired_of(world, told) == list(range(report.segments))
    assert await world.rows() == await world.rebuilt_rows()


async def test_what_is_to_be_kept_stays(world: World) -> None:
    one, other = story(RUN_OF_ALL), story(RUN_OF_ALL, number=2)
    await world.happen([*on_day(0, one), *on_day(0, other)])
    world.days_later(3)
    report = await world.let_go(1, keep=[one.video_id])
    assert [share.video_id for share in report.by_video] == [other.video_id]
    assert report.keep == (one.video_id,)
    assert await expired_of(world, one) == []


async def test_a_source_that_was_kept_goes_with_the_last_segment(world: World) -> None:
    told = story(RUN_OF_ALL, RUN_OF_ALL, fate="active")
    history = events_of(told)
    await world.happen([(0.0, step) for step in history[:-1]])
    source = world.storage.spool_path(told.video_id)
    source.write_bytes(b"a kept source")
    world.days_later(3)
    await world.happen([(3.0, history[-1])])
    assert (await world.let_go(2)).segments == 1
    assert source.exists()
    ended = RunCancelled(video_id=told.video_id, run_id=told.run_id(0), reason="a wish", cancelled_at=4.0)
    await world.happen([(3.0, (video_stream(told.video_id), ended))])
    world.days_later(3)
    report = await world.let_go(2)
    assert (report.segments, report.bytes_freed) == (1, 4 * JPEG_BYTES + len(b"a kept source"))
    assert not source.exists()


async def test_a_wrong_id_to_keep_lets_nothing_go(world: World) -> None:
    told = story(RUN_OF_ALL)
    await world.happen(on_day(0, told))
    world.days_later(3)
    with pytest.raises(
        InvalidRequestError, match="keep: there is no video 0199aaaa-0000-7000-8000-00000000000f"
    ):
        await world.let_go(1, keep=["0199aaaa-0000-7000-8000-00000000000f"])
    assert await expired_of(world, told) == []


@pytest.mark.parametrize("days", [-1, 40_000, float("nan"), float("inf"), 10**400])
def test_days_that_are_no_days(days: float) -> None:
    with pytest.raises(InvalidRequestError, match="days must be a number from 0 to 36500"):
        RetentionRequest(days=days)


def test_ids_that_are_no_ids() -> None:
    with pytest.raises(InvalidRequestError, match="keep: 'street' is not the id of a video"):
        RetentionRequest(days=1, keep=frozenset(["street"]))
    with pytest.raises(InvalidRequestError, match="keep takes at most 10000 videos"):
        RetentionRequest(days=1, keep=frozenset(str(UUID(int=n)) for n in range(10_001)))


async def test_a_dry_run_says_the_same_and_writes_nothing(world: World) -> None:
    await world.happen(
        [*on_day(0, story(RUN_OF_ALL, INTERRUPTED, fate="failed")), *on_day(2, story(RUN_OF_ALL, number=2))]
    )
    world.days_later(3)
    streams, files = await world.streams(), world.files()
    async with world.living() as life:
        dry = await life.let_go(RetentionRequest(days=4, dry_run=True))
    assert (await world.streams(), world.files()) == (streams, files)
    real = await world.let_go(4)
    assert (dry.videos, dry.segments, dry.frames, dry.bytes_freed) == (
        real.videos, real.segments, real.frames, real.bytes_freed,
    ) == (1, 2, 8, 8 * JPEG_BYTES)  # fmt: skip
    assert (dry.purged, real.purged) == (0, 2)
    assert dry.progress == real.progress == 1.0


async def test_a_segment_that_cannot_be_read_stays_and_is_counted(world: World) -> None:
    told = story(RUN_OF_ALL, RUN_OF_ALL)
    await world.happen(on_day(0, told))
    poison = NewEvent(event_id=uuid4(), event_type="FramesStored", data=b"[")
    await world.store.append(frames_stream(told.video_id, 1), [poison], expected_version=ANY)
    world.days_later(3)
    report = await world.let_go(1)
    assert (report.segments, report.unreadable, report.state) == (1, 1, "done")
    assert await expired_of(world, told) == [0]


async def test_one_at_a_time(world: World) -> None:
    await world.happen(on_day(0, story(RUN_OF_ALL)))
    async with world.living() as life:
        report = await life.retention.start(RetentionRequest(days=1))
        with pytest.raises(NotPossibleError, match="a retention runs already"):
            await life.retention.start(RetentionRequest(days=1))
        await life.retention.wait(10.0)
        assert report.state == "done"
        assert (await life.let_go(RetentionRequest(days=1))).state == "done"


async def test_the_last_report_is_there_after_a_restart_and_an_interruption_is_told(world: World) -> None:
    await world.happen(on_day(0, story(RUN_OF_ALL)))
    world.days_later(3)
    with pytest.raises(Crash):
        await world.let_go(1, crash_at=0)
    await RetentionFile(world.folder).save(
        RetentionReport(dry_run=False, days=1, older_than=1.0, started_at=2.0)
    )
    async with world.living() as life:
        assert life.retention.report is not None
        assert (life.retention.report.state, life.retention.report.error) == (
            "failed", "interrupted: the program ended",
        )  # fmt: skip
    await world.let_go(1)
    async with world.living() as life:
        assert life.retention.report is not None
        assert (life.retention.report.state, life.retention.report.segments) == ("done", 1)


async def test_leaving_interrupts_a_retention(world: World) -> None:
    await world.happen(on_day(0, story(*[RUN_OF_ALL] * 4)))
    world.days_later(3)
    async with world.living() as life:
        report = await life.retention.start(RetentionRequest(days=1))
        await asyncio.sleep(0)
    assert (report.state, report.error) == ("failed", "interrupted")
    assert (await world.let_go(1)).state == "done"
    assert world.files() == []


async def test_a_purge_that_does_not_come_is_told(world: World) -> None:
    """A process manager that cannot remove the files."""
    await world.happen(on_day(0, story(RUN_OF_ALL)))
    world.days_later(3)
    async with (
        world.living() as life,
        PurgeWatch(world.store, CODEC, lambda event: None, patience=0.05) as watch,
    ):
        await watch.until_all_purged()  # nothing is expected
        video = await life.streams.load(story(RUN_OF_ALL).video_id)
        async for counted in life.expiring.count(video, [0], world.store.now):
            if counted.segments:
                event = await life.expiring.expire(video.video_id, counted.segments, world.store.now)
                assert event is not None
                watch.expect(event)
        with pytest.raises(
            TimeoutError, match=r"the files of 1 expired segments could not be removed for 0\.05 s"
        ):
            await watch.until_all_purged()
        await life.finish_purges()
        async with asyncio.timeout(60):
            while watch.position is None:
                await asyncio.sleep(0.001)
        await watch.until_all_purged()


async def test_a_purge_may_be_seen_before_it_is_expected(world: World) -> None:
    purged: list[SegmentsPurged] = []
    sums = ExpiredSegment(
        segment=3, first_frame=None, last_frame=None, frames_stored=0, decode_nanoseconds=0,
        resize_nanoseconds=0, encode_nanoseconds=0, last_event_at=0.0, runs=(),
    )  # fmt: skip
    expired = SegmentsExpired(video_id="v", segments=(sums,), older_than=1.0, expired_at=1.0)
    event = SegmentsPurged(video_id="v", segments=(3,), bytes_freed=5, purged_at=1.0)
    async with PurgeWatch(world.store, CODEC, purged.append) as watch:
        await world.store.append("video-v", [CODEC.encode(event)], expected_version=ANY)
        async with asyncio.timeout(60):
            while watch.position is None:
                await asyncio.sleep(0.001)
        assert purged == []
        watch.expect(expired)
        await watch.until_all_purged()
    assert purged == [event]


async def test_a_watch_whose_store_ends_says_so(world: World) -> None:
    sums = ExpiredSegment(
        segment=3, first_frame=None, last_frame=None, frames_stored=0, decode_nanoseconds=0,
        resize_nanoseconds=0, encode_nanoseconds=0, last_event_at=0.0, runs=(),
    )  # fmt: skip
    async with PurgeWatch(world.store, CODEC, lambda event: None) as watch:
        watch.expect(SegmentsExpired(video_id="v", segments=(sums,), older_than=1.0, expired_at=1.0))
        await world.store.close()
        with pytest.raises(TimeoutError, match="the event store was closed"):
            await watch.until_all_purged()


def test_progress_tells_looking_and_purging_apart() -> None:
    report = RetentionReport(dry_run=False, days=1, older_than=1.0, started_at=2.0)
    assert report.progress == 0.0
    report.candidates, report.looked_at = 10, 5
    assert report.progress == 0.25
    report.looked_at, report.segments, report.purged = 10, 8, 4
    assert report.progress == 0.75
    report.state = "done"
    assert report.progress == 1.0
    assert (
        RetentionReport(
            dry_run=True, days=1, older_than=1.0, started_at=2.0, candidates=4, looked_at=3
        ).progress
        == 0.75
    )
