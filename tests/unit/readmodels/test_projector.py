"""Given events, which rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.errors import FrameNotSampledError
from monolith.domain.events import (
    DOMAIN_EVENTS,
    FramesDropped,
    SegmentClaimed,
    SegmentFailed,
    SourceEnded,
    VideoDeleted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.readmodels import cleaning, videos
from monolith.readmodels.files import Origin
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import rebuild
from monolith.readmodels.results import ResultFilter, select_runs
from monolith.readmodels.schema import SIGNATURE
from monolith.readmodels.videos import RunView, VideoView
from tests.unit.readmodels.story import (
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    VIDEO,
    Streamed,
    analysed,
    completed,
    probed,
    recorded,
    requested,
    stored,
    submitted,
    whole_video,
)

OTHER_VIDEO = "0199aaaa-0000-7000-8000-00000000000a"
OTHER_RUN = "0199aaaa-0000-7000-8000-00000000000b"
T = TypeVar("T")
CODEC = EventCodec(DOMAIN_EVENTS)
TABLES = (
    "checkpoints", "videos", "runs", "run_models", "segments", "run_segments", "frames", "dropped", "results",
    "parked", "doomed", "segment_sums", "run_sums", "model_sums", "connections",
)  # fmt: skip


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[ReadModels]:
    opened = await ReadModels.open(tmp_path / "read.db", CODEC)
    yield opened
    await opened.close()


async def given(models: ReadModels, streamed: Sequence[Streamed]) -> None:
    await models.projection.apply(recorded(streamed))


async def first_run(models: ReadModels, video_id: str = VIDEO) -> RunView:
    run = (await models.video(video_id)).first_run
    assert run is not None
    return run


def rows(path: Path) -> dict[str, list[Any]]:
    """All rows of a closed file."""
    connection = apsw.Connection(str(path))
    try:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES
        }
    finally:
        connection.close()


async def result_rows(models: ReadModels, video: VideoView) -> list[Any]:
    page = await models.results_page(select_runs(video), ResultFilter(), base_url="http://x", limit=1000)
    decoded: list[Any] = msgspec.json.decode(b"[" + page.text + b"]")
    return decoded


async def test_a_video_is_pending_until_it_is_probed(models: ReadModels) -> None:
    await given(models, submitted())
    video = await models.video(VIDEO)
    assert (video.status, video.media, video.frames_total) == ("Pending", None, None)
    assert (await first_run(models)).progress == 0.0


async def test_a_probed_video_is_processing(models: ReadModels) -> None:
    await given(models, [*submitted(step=3), *probed(100)])
    video = await models.video(VIDEO)
    assert video.status == "Processing"
    assert video.media is not None
    assert (video.media.width, video.media.size_bytes) == (640, 1234)
    assert (await first_run(models)).frames_sampled == 33


async def test_a_frame_counts_when_every_model_is_done_with_it(models: ReadModels) -> None:
    await given(
        models,
        [
            *submitted((OBJECTS, FACES, COLORS)), *probed(), stored(range(1, 9)),
            analysed(range(1, 9), COLORS), analysed([1, 2, 3, 5], OBJECTS), analysed([1, 2, 5, 6], FACES),
        ],
    )  # fmt: skip
    run = await first_run(models)
    assert (run.frames_analyzed, run.greatest_frame_analyzed) == (3, 5)


async def test_frames_that_interleave_are_counted_once(models: ReadModels) -> None:
    events = [
        analysed([1, 9], OBJECTS),
        analysed([1, 9], COLORS),
        analysed([5], OBJECTS),
        analysed([5], COLORS),
    ]
    await given(
        models, [*submitted((OBJECTS, COLORS)), *events, analysed([2, 8], OBJECTS), analysed([2, 8], COLORS)]
    )
    run = await first_run(models)
    assert (run.frames_analyzed, run.greatest_frame_analyzed) == (5, 9)


async def test_a_second_result_of_a_frame_changes_nothing(models: ReadModels) -> None:
    await given(models, [*submitted(), *probed(), analysed([1, 2]), analysed([2, 3], found=())])
    run = await first_run(models)
    assert (run.frames_analyzed, run.greatest_frame_analyzed) == (3, 3)
    video = await models.video(VIDEO)
    assert [len(row["inference_results"]) for row in await result_rows(models, video)] == [1, 1, 0]


async def test_dropped_frames_are_counted_once_each(models: ReadModels) -> None:
    def dropped(numbers: tuple[int, ...], model: str | None) -> Streamed:
        event = FramesDropped(
            video_id=VIDEO, run_id=RUN, segment=0, frame_numbers=numbers, reason="damaged", model=model
        )
        return frames_stream(VIDEO, 0), event

    await given(
        models, [*submitted((OBJECTS, COLORS)), *probed(10), dropped((3, 4), None), dropped((4, 5), OBJECTS)]
    )
    run = await first_run(models)
    assert (run.frames_dropped, run.progress, run.coverage) == (3, 0.3, 0.0)


async def test_progress_of_a_source_of_unknown_length(models: ReadModels) -> None:
    await given(models, [*submitted(), *probed(None, duration=4.0), analysed(range(1, 26))])
    run = await first_run(models)
    assert (run.frames_sampled, run.progress, run.coverage) == (None, 0.25, None)
    ended = recorded([(video_stream(VIDEO), SourceEnded(video_id=VIDEO, frames=50))], 50)
    await models.projection.apply(ended)
    assert (await first_run(models)).progress == 0.5


async def test_a_live_source_has_no_progress(models: ReadModels) -> None:
    await given(models, [*submitted(), *probed(None, duration=None), analysed([1])])
    assert (await first_run(models)).progress is None


async def test_status_stays_the_first_runs(models: ReadModels) -> None:
    await given(models, [*whole_video(), requested((COLORS,), run_id=SECOND_RUN)])
    video = await models.video(VIDEO)
    assert [run.status for run in video.runs] == ["Completed", "Processing"]
    assert video.status == "Completed"
    assert [video.video_id for video in await models.videos(status="Completed")] == [VIDEO]
    assert await models.video_counts() == {"Completed": 1}


async def test_segments_of_a_run(models: ReadModels) -> None:
    claimed = SegmentClaimed(video_id=VIDEO, run_id=RUN, segment=0, attempt=1, owner="me", claimed_at=1.0)
    failed = SegmentFailed(video_id=VIDEO, run_id=RUN, segment=0, attempt=1, reason="bad", permanent=False)
    await given(
        models, [*submitted(), *probed(), (results_stream(RUN, 0), claimed), (video_stream(VIDEO), failed)]
    )
    assert (await first_run(models)).segments.failed == 1
    await models.projection.apply(recorded(completed(100), 100))
    segments = (await first_run(models)).segments
    assert (segments.planned, segments.closed, segments.failed) == (1, 1, 0)


async def test_projecting_again_changes_nothing(models: ReadModels, tmp_path: Path) -> None:
    events = recorded(whole_video((OBJECTS, COLORS)))
    await models.projection.apply(events[:6])
    await models.projection.apply(events[3:])
    await models.projection.apply(events)
    await models.close()
    fresh = await ReadModels.open(tmp_path / "fresh.db", CODEC)
    await fresh.projection.apply(events)
    await fresh.close()
    assert rows(tmp_path / "read.db") == rows(tmp_path / "fresh.db")


async def test_a_failed_batch_leaves_nothing(models: ReadModels) -> None:
    good = recorded(whole_video())
    poison = msgspec.structs.replace(good[-1], data=b"{}", commit_position=99)
    with pytest.raises(Exception, match="RunCompleted"):
        await models.projection.apply([*good, poison])
    assert await models.find_video(VIDEO) is None
    assert await models.projection.checkpoint() is None


async def test_a_deleted_video_leaves_no_row(models: ReadModels, tmp_path: Path) -> None:
    other = [
        *submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN),
        analysed([1], run_id=OTHER_RUN, video_id=OTHER_VIDEO),
    ]
    deleted = (video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0))
    late = [analysed([9]), stored([9]), *completed(5), *probed(3), requested((OBJECTS,), run_id=SECOND_RUN)]
    await given(models, [*whole_video((OBJECTS, COLORS)), *other, deleted, *late])
    assert await models.find_video(VIDEO) is None
    assert (await first_run(models, OTHER_VIDEO)).frames_analyzed == 1
    await models.clean()
    await models.close()
    left = rows(tmp_path / "read.db")
    assert {table: len(found) for table, found in left.items() if found} == {
        "checkpoints": 1, "videos": 1, "runs": 1, "run_models": 1, "results": 1, "segment_sums": 1, "run_sums": 1,
            "model_sums": 1,
    }  # fmt: skip


async def test_numbers_of_deleted_videos_are_not_used_again(models: ReadModels) -> None:
    await given(models, whole_video())
    video = await models.video(VIDEO)
    deleted = (video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0))
    again = [*submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN), stored([1], OTHER_VIDEO)]
    await models.projection.apply(
        recorded([deleted, *again, analysed([1], run_id=OTHER_RUN, video_id=OTHER_VIDEO)], 50)
    )
    await models.clean()
    assert await result_rows(models, video) == []
    with pytest.raises(FrameNotSampledError):
        await models.frame(video, 1)


async def test_parked_events_are_remembered_and_passed(models: ReadModels) -> None:
    await given(models, whole_video())
    event = recorded([analysed([1])], 200)[0]
    await models.projection.park(event, ValueError("bad"))
    assert await models.projection.checkpoint() == 200
    assert await models.projection.parked_streams() == [results_stream(RUN, 0)]
    assert (await models.video(VIDEO)).parked_events == 1


async def fill(store: MemoryEventStore, streamed: Sequence[Streamed]) -> None:
    for stream, event in streamed:
        await store.append(stream, [CODEC.encode(event)], expected_version=ANY)


async def test_the_rebuilt_equals_the_live_one(tmp_path: Path) -> None:
    store = MemoryEventStore()
    live = await ReadModels.open(tmp_path / "live.db", CODEC)
    async with ProjectionRunner(store, live.projection) as runner:
        await fill(store, whole_video((OBJECTS, COLORS), frames=70))
        bad = msgspec.structs.replace(CODEC.encode(analysed([71])[1]), data=b"{")
        await store.append(results_stream(RUN, 0), [bad], expected_version=ANY)
        await fill(store, [analysed([72]), *submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN)])
        await fill(store, [(video_stream(OTHER_VIDEO), VideoDeleted(video_id=OTHER_VIDEO, deleted_at=1.0))])
        await runner.wait_for(await store.head() or 0, 60)
    await live.clean()
    await live.close()
    count = await rebuild(store, CODEC, tmp_path / "again.db")
    assert count == len(await store.read_all())
    assert rows(tmp_path / "again.db") == rows(tmp_path / "live.db")
    assert len(rows(tmp_path / "live.db")["parked"]) == 2
    await store.close()


@pytest.mark.parametrize("spoil", ["other version", "damaged"])
async def test_a_file_that_does_not_fit_is_made_anew(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "read.db"
    models = await ReadModels.open(path, CODEC)
    await given(models, submitted())
    await models.close()
    if spoil == "damaged":
        path.write_bytes(b"no database at all" * 1000)
    else:
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE meta SET value = 'other' WHERE value = ?", (SIGNATURE,))
        connection.close()
    models = await ReadModels.open(path, CODEC)
    assert await models.projection.checkpoint() is None
    assert await models.videos() == []
    await models.close()


async def reopened(path: Path, origin: Origin) -> int | None:
    """The checkpoint that is found."""
    models = await ReadModels.open(path, CODEC, origin=origin)
    checkpoint = await models.projection.checkpoint()
    await models.close()
    return checkpoint


async def test_a_file_of_another_store_is_made_anew(tmp_path: Path) -> None:
    path, here = tmp_path / "read.db", Origin("here", 100)
    models = await ReadModels.open(path, CODEC, origin=here)
    await given(models, submitted())
    await models.close()
    assert await reopened(path, here) == 2
    assert await reopened(path, Origin("there", 100)) is None
    assert await reopened(path, Origin("there", 100)) is None


async def test_an_empty_file_becomes_that_of_the_store_it_is_filled_from(tmp_path: Path) -> None:
    path, here = tmp_path / "read.db", Origin("here", 100)
    assert await reopened(path, Origin("there", 100)) is None
    models = await ReadModels.open(path, CODEC, origin=here)
    await given(models, submitted())
    await models.close()
    assert await reopened(path, here) == 2
    assert await reopened(path, Origin("there", 100)) is None


async def test_a_file_that_knows_more_than_its_store_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    models = await ReadModels.open(path, CODEC, origin=Origin("here", 2))
    await given(models, submitted())
    await models.close()
    assert await reopened(path, Origin("here", 2)) == 2
    assert await reopened(path, Origin("here", 1)) is None


async def test_a_big_deleted_video_goes_at_once_and_its_rows_in_slices(
    models: ReadModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "_SLICE", 30)
    await given(models, whole_video((OBJECTS, COLORS), frames=100))
    removed: list[int] = []
    write = models._database.write

    async def watched(work: Callable[[apsw.Connection], T]) -> T:
        def counted(connection: apsw.Connection) -> T:
            before = connection.total_changes()
            result = work(connection)
            removed.append(connection.total_changes() - before)
            return result

        return await write(counted)

    monkeypatch.setattr(models._database, "write", watched)
    await models.projection.apply(
        recorded([(video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0))], 900)
    )
    assert await models.find_video(VIDEO) is None
    async with asyncio.timeout(60):
        while await models._database.read(cleaning.count_doomed):
            await asyncio.sleep(0.01)
    assert sum(removed) > 300
    assert max(removed) <= 30 + 3  # and the ranges that are done


async def test_rows_that_an_earlier_process_left_go(models: ReadModels, tmp_path: Path) -> None:
    await given(models, whole_video())
    await models._database.write(lambda c: cleaning.doom(c, "results", 0, 2**62))
    await models.close()
    again = await ReadModels.open(tmp_path / "read.db", CODEC)
    async with asyncio.timeout(60):
        while await again._database.read(cleaning.count_doomed):
            await asyncio.sleep(0.01)
    assert await result_rows(again, await again.video(VIDEO)) == []
    await again.close()


async def test_many_videos_take_as_many_queries_as_one(models: ReadModels) -> None:
    for number in range(30):
        video_id, run_id = f"{VIDEO[:-2]}{number:02d}", f"{RUN[:-3]}a{number:02d}"
        await models.projection.apply(
            recorded(
                [*submitted(video_id=video_id, run_id=run_id), *probed(9, 1.0, video_id)], 10 * number + 1
            )
        )
    counts = []
    for limit in (1, 30):
        statements: list[str] = []

        def traced(connection: apsw.Connection, seen: list[str] = statements, limit: int = limit) -> int:
            def trace(_: apsw.Cursor, sql: str, __: apsw.Bindings | None) -> bool:
                seen.append(sql)
                return True

            connection.exec_trace = trace
            found = videos.list_videos(connection, None, limit, 0)
            connection.exec_trace = None
            return len(found)

        assert await models._database.read(traced) == limit
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 6


async def test_parked_events_are_counted_for_their_video_alone(models: ReadModels) -> None:
    other = submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN)
    await given(models, [*whole_video(), *other])
    await models.projection.park(recorded([analysed([1])], 200)[0], ValueError("bad"))
    await models.projection.park(recorded([stored([1], OTHER_VIDEO)], 201)[0], ValueError("bad"))
    assert {video.video_id: video.parked_events for video in await models.videos()} == {
        VIDEO: 1,
        OTHER_VIDEO: 1,
    }
    assert models.projection.parked == 2


async def test_closed_read_models_say_so(models: ReadModels) -> None:
    await models.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await models.videos()
