"""The analytics files follow the events: written, put together, removed; the same however often it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.events import results_stream, video_stream
from monolith.readmodels.analytics import Analytics, AnalyticsProjection
from monolith.readmodels.analytics_rebuild import AnalyticsRebuild, LiveAnalytics
from monolith.readmodels.analytics_store import Pins, exchange_folders, finish_exchange
from monolith.readmodels.files import Origin
from monolith.storage import _segment_of
from tests.unit.readmodels.segments import (
    CODEC,
    World,
    closed,
    deleted,
    expired,
    files_below,
    found_in,
    project,
    whole_segment,
    world,
)
from tests.unit.readmodels.story import (
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    VIDEO,
    Streamed,
    requested,
    submitted,
)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_store.GROUPS", (4, 8))


def names(world: World) -> list[str]:
    return [name.removeprefix(f"{VIDEO}/{RUN}/") for name in world.files()]


def segments_in(world: World) -> list[int]:
    """Numbers of all segments that the files hold, in order of the files' names."""
    tables = [pl.read_parquet(world.root / name) for name in world.files()]
    return [number for table in tables for number in table["segment"].unique(maintain_order=True)]


async def test_a_completed_segment_has_a_file_with_all_of_its_lines(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0, (OBJECTS, COLORS))) as made:
        assert names(made) == ["000000.parquet"]
        lines = pl.read_parquet(made.root / VIDEO / RUN / "000000.parquet")
        assert lines.filter(pl.col("entry") == 0).height == 2 * 4
        assert lines.filter(pl.col("label") == "car")["frame_number"].to_list() == [1, 2, 3, 4]
        ((segment, path),) = await made.analytics.closed_segments(RUN)
        assert (segment.first_frame, segment.last_frame, segment.rows) == (1, 4, lines.height)
        assert path == made.root / VIDEO / RUN / "000000.parquet"
        assert made.projection.segments == 1


async def test_an_open_segment_has_none(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), [found_in(range(1, 5), 0)]) as made:
        assert made.files() == {}


async def test_events_that_were_projected_change_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        before = made.files()
        for event in await made.store.read_all(prefixes=("video-",)):
            await made.projection.apply([event])
        assert made.files() == before
        assert made.projection.segments == 1


async def test_a_segment_whose_results_are_gone_is_remembered_without_a_file(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        await made.happened(whole_segment(0))
        await made.store.tombstone_stream(results_stream(RUN, 0))
        await made.projected(models=False)
        assert made.files() == {}
        assert [path for _, path in await made.analytics.closed_segments(RUN)] == [None]


async def test_results_that_vanish_while_they_are_read_make_no_file(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        await made.happened([found_in(range(1, 5), 0), closed(0)[1]])
        await made.projected(models=False)
        assert made.files() == {}
        assert await made.analytics.closed_segments(RUN) == []


async def test_an_unreadable_segment_is_noted_and_the_others_go_on(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        stream, event = found_in([1], 0)
        bad = msgspec.structs.replace(CODEC.encode(event), data=b"{}")
        await made.store.append(stream, [bad], expected_version=ANY)
        await made.happened([*closed(0), *whole_segment(1)])
        await made.projected(models=False)
        assert names(made) == ["000001.parquet"]
        assert made.projection.parked == 1
        assert await made.projection.parked_streams() == []
        await made.happened([deleted()])
        await made.projected(models=False)
        assert (made.files(), made.projection.parked) == ({}, 0)


async def test_a_group_becomes_one_file_when_it_is_whole(tmp_path: Path, small_groups: None) -> None:
    first = [event for number in (1, 0, 3) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), first) as made:
        assert len(made.files()) == 3
        await made.happened([*whole_segment(2), *whole_segment(4)])
        await made.projected()
        assert names(made) == ["000004.parquet", "group-000000-000003.parquet"]
        assert segments_in(made) == [4, 0, 1, 2, 3]


async def test_groups_become_larger_groups(tmp_path: Path, small_groups: None) -> None:
    events = [event for number in range(9) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        assert names(made) == ["000008.parquet", "group-000000-000007.parquet"]
        assert segments_in(made) == [8, *range(8)]
        await made.happened([expired(*range(7))])
        await made.projected()
        assert segments_in(made) == [8, 7]


async def test_large_segments_stay_alone(
    tmp_path: Path, small_groups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_store.GROUP_ROWS", 40)
    events = [event for number in range(4) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        assert len(made.files()) == 4


async def test_expired_segments_leave_their_files_and_groups(tmp_path: Path, small_groups: None) -> None:
    events = [event for number in range(6) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        await made.happened([expired(1, 4)])
        await made.projected()
        assert names(made) == ["000005.parquet", "group-000000-000003.1.parquet"]
        assert segments_in(made) == [5, 0, 2, 3]
        await made.happened([expired(0), expired(3, 2)])
        await made.projected()
        assert names(made) == ["000005.parquet"]


async def test_a_group_whose_file_was_removed_first_loses_its_segments_all_the_same(
    tmp_path: Path, small_groups: None
) -> None:
    """All of the video has expired by now: its folder went before the projection was told of the first expiry."""
    events = [event for number in range(4) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        shutil.rmtree(made.root / VIDEO)
        await made.happened([expired(0)])
        await made.projected()
        assert [path for _, path in await made.analytics.closed_segments(RUN)] == [None] * 4
        await made.happened([expired(1, 2, 3)])
        await made.projected()
        assert made.files() == {}


async def test_expiry_takes_the_segments_of_all_runs(tmp_path: Path) -> None:
    second = [requested((COLORS,), run_id=SECOND_RUN), *whole_segment(0, (COLORS,), run_id=SECOND_RUN)]
    async with world(tmp_path, submitted(), whole_segment(0), second) as made:
        assert len(made.files()) == 2
        await made.happened([expired(0, runs=(RUN, SECOND_RUN))])
        await made.projected()
        assert made.files() == {}


async def test_a_deleted_video_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0), [deleted()]) as made:
        assert made.files() == {}
        assert not (made.root / VIDEO).exists()
        assert await made.analytics.closed_segments(RUN) == []


async def test_what_an_interruption_left_is_swept(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        before = made.files()
        folder = made.root / VIDEO / RUN
    (folder / "000001.parquet").write_bytes(b"not named by the index")
    (folder / "000002.parquet.part").write_bytes(b"half")
    analytics = await Analytics.open(tmp_path / "analytics")
    await analytics.close()
    assert files_below(tmp_path / "analytics") == before


@pytest.mark.parametrize(
    "origin", [Origin("another", 100), Origin("same", 1)], ids=["another store", "a store that knows less"]
)
async def test_files_of_another_past_are_thrown_away(tmp_path: Path, origin: Origin) -> None:
    root = tmp_path / "analytics"
    async with world(tmp_path, submitted(), whole_segment(0)):
        pass
    for known in (Origin("same", 100), origin):
        analytics = await Analytics.open(root, origin=Origin("same", 100) if known is not origin else origin)
        await analytics.close()
    assert files_below(root) == {}


async def test_a_damaged_index_is_made_again(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        before = made.files()
        store = made.store
        (tmp_path / "analytics" / "index.db").write_bytes(b"no database at all" * 1000)
        analytics = await Analytics.open(tmp_path / "analytics")
        await project(store, AnalyticsProjection(analytics, store, CODEC))
        assert files_below(analytics.root) == before
        await analytics.close()


class Killed(BaseException):
    """Stands for the end of the process: nothing but `finally` blocks runs after it."""


def story(numbers: list[int]) -> Iterator[list[Streamed]]:
    yield submitted((OBJECTS, FACES))
    for number in numbers:
        yield whole_segment(number, (OBJECTS, FACES))
    yield [expired(numbers[0], numbers[-1])]
    yield whole_segment(len(numbers), (OBJECTS, FACES))


@given(order=st.permutations(range(5)), kills=st.lists(st.integers(0, 40), min_size=1, max_size=4))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_killed_at_any_sync_and_started_again_the_files_are_the_same(
    order: list[int], kills: list[int], tmp_path_factory: pytest.TempPathFactory, small_groups: None
) -> None:
    """Every write is followed by a sync: dying there stands for dying anywhere before the next one."""

    async def undisturbed(folder: Path) -> dict[str, bytes]:
        async with world(folder, *story(order)) as made:
            return made.files()

    async def disturbed(folder: Path) -> dict[str, bytes]:
        async with world(folder) as made:
            for events in story(order):
                await made.happened(events)
            for kill in kills:
                await _die_at(kill, made, folder)
            analytics = await Analytics.open(folder / "killed")
            await project(made.store, AnalyticsProjection(analytics, made.store, CODEC))
            await analytics.close()
            return files_below(folder / "killed")

    base = tmp_path_factory.mktemp("files")
    (base / "one").mkdir()
    (base / "two").mkdir()
    assert asyncio.run(disturbed(base / "two")) == asyncio.run(undisturbed(base / "one"))


async def _die_at(sync: int, made: World, folder: Path) -> None:
    """Project until the `sync`-th sync of a file, and go no further."""
    analytics = await Analytics.open(folder / "killed")
    real, left = os.fsync, sync

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        with contextlib.suppress(Killed):
            await project(made.store, AnalyticsProjection(analytics, made.store, CODEC), batch=3)
    await analytics.close()


async def test_a_runner_keeps_the_files_up_to_date(tmp_path: Path) -> None:
    async with (
        world(tmp_path, submitted()) as made,
        ProjectionRunner(made.store, made.projection, batch_size=4) as runner,
    ):
        await made.happened([*whole_segment(0), *whole_segment(1)])
        head = await made.store.head()
        assert head is not None
        await runner.wait_for(head, 60)
        assert names(made) == ["000000.parquet", "000001.parquet"]


async def test_a_poisonous_event_of_a_video_is_parked(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        bad = msgspec.structs.replace(CODEC.encode(closed(0)[1][1]), data=b"[]")
        await made.store.append(video_stream(VIDEO), [bad], expected_version=ANY)
        async with ProjectionRunner(made.store, made.projection) as runner:
            head = await made.store.head()
            assert head is not None
            await runner.wait_for(head, 60)
        assert made.projection.parked == 1
        assert await made.projection.parked_streams() == [video_stream(VIDEO)]


# Rebuilding


async def test_rebuilt_files_equal_live_ones_beside_a_runner(tmp_path: Path, small_groups: None) -> None:
    events = [event for number in range(5) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        before = made.files()
        told: list[tuple[int, int | None]] = []
        async with ProjectionRunner(made.store, made.projection) as runner:
            live = LiveAnalytics(made.analytics, runner)
            rebuild = AnalyticsRebuild(made.store, CODEC, made.root, live=live)
            (made.root / VIDEO / RUN / "000004.parquet").write_bytes(b"damaged")
            count = await rebuild.rebuild(lambda done, total: told.append((done, total)))
            assert (count, told[-1]) == (7, (7, 7))
            assert made.files() == before
            await made.happened(whole_segment(5))
            head = await made.store.head()
            assert head is not None
            await runner.wait_for(head, 60)
        assert names(made) == ["000004.parquet", "000005.parquet", "group-000000-000003.parquet"]
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
            "analytics",
            "analytics-scratch",
        }


async def test_a_reader_of_the_old_files_takes_none_of_the_rebuilt_ones_along(
    tmp_path: Path, small_groups: None
) -> None:
    """A group that lost a segment has another name, until it is made again: then it has the old one."""
    events = [event for number in range(4) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        async with made.analytics.pinned():
            await made.happened([expired(1)])
            await made.store.tombstone_stream(results_stream(RUN, 1))
            await made.projected(models=False)
            async with ProjectionRunner(made.store, made.projection) as runner:
                live = LiveAnalytics(made.analytics, runner)
                await AnalyticsRebuild(made.store, CODEC, made.root, live=live).rebuild(
                    lambda done, total: None
                )
        assert names(made) == ["group-000000-000003.parquet"]
        assert segments_in(made) == [0, 2, 3]


async def test_a_rebuild_that_fails_leaves_the_old_files(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        before = made.files()
        rebuild = AnalyticsRebuild(made.store, CODEC, made.root, room=lambda: -1)
        with pytest.raises(Exception, match="no room"):
            await rebuild.rebuild(lambda done, total: None)
        assert made.files() == before
        assert not (tmp_path / "analytics-rebuild").exists()


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_exchange_that_was_interrupted_is_finished(
    tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died after so many of its three renamings."""
    root = tmp_path / "analytics"
    for folder, content in ((root, "old"), (tmp_path / "analytics-rebuild", "new")):
        folder.mkdir()
        (folder / "file").write_text(content)
    real, left = Path.rename, renames

    def rename(path: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(Killed):
        exchange_folders(root)
    monkeypatch.undo()
    finish_exchange(root)
    assert (root / "file").read_text() == ("old" if renames == 0 else "new")
    assert [path.name for path in tmp_path.iterdir()] == ["analytics"]


# Readers


def test_files_stay_until_the_readers_who_may_know_them_are_through(tmp_path: Path) -> None:
    pins, first, second = Pins(), tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    with pins.reading():
        pins.remove([first])
        with pins.reading():
            pins.remove([second])
            assert first.exists() and second.exists()
        assert first.exists() and second.exists()
    assert not first.exists() and not second.exists()
    first.touch()
    pins.remove([first])
    assert not first.exists()


def test_a_later_reader_does_not_keep_what_went_before_it(tmp_path: Path) -> None:
    pins, file = Pins(), tmp_path / "file"
    file.touch()
    early = pins.reading()
    early.__enter__()
    pins.remove([file])
    with pins.reading():
        early.__exit__(None, None, None)
        assert not file.exists()


def test_groups_are_what_retention_can_tell_from_segments() -> None:
    """Their names do not begin with a segment's number: who removes files of segments passes over them."""
    assert _segment_of("000007.parquet") == 7
    assert _segment_of("group-000000-000015.parquet") is None
