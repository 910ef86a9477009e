"""Rebuilt read models take the place of those in use, which stay in use until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.projection import ProjectionRunner, RunnerState
from eventsourcing.versions import ANY
from monolith.domain.events import DOMAIN_EVENTS, VideoDeleted, results_stream, video_stream
from monolith.exports.pages import findings_pages
from monolith.readmodels import files, queries, rebuilding
from monolith.readmodels.files import Origin
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import Live, ReadModelRebuild, rebuild
from monolith.readmodels.results import START, ResultFilter, Selection, select_runs
from tests.readmodel_rows import assert_same_rows, count
from tests.unit.readmodels.story import (
    CAR,
    COLORS,
    OBJECTS,
    RUN,
    VIDEO,
    Streamed,
    analysed,
    completed,
    stored,
    submitted,
    whole_video,
)

CODEC = EventCodec(DOMAIN_EVENTS)
OTHER_VIDEO = "0199aaaa-0000-7000-8000-00000000000a"
OTHER_RUN = "0199aaaa-0000-7000-8000-00000000000b"
WAIT = 60.0


class Forgiving:
    """The codec, but for events that a program of another version cannot read. `refused`: their commit positions."""

    def __init__(self) -> None:
        self.refused: set[int] = set()

    def decode(self, recorded: RecordedEvent) -> msgspec.Struct:
        if recorded.commit_position in self.refused:
            raise ValueError("cannot be read")
        return CODEC.decode(recorded)


class Running:
    """Read models in use over a real event store."""

    def __init__(self, path: Path, store: SqliteEventStore, decoder: Forgiving) -> None:
        self.path = path
        self.store = store
        self.decoder = decoder
        self.origin = Origin(store.identity, store.last_position)
        self.progress: list[tuple[int, int | None]] = []
        self.models: ReadModels
        self.runner: ProjectionRunner

    async def happened(self, *streamed: Streamed) -> int:
        """Commit position of the last."""
        position = 0
        for stream, event in streamed:
            appended = await self.store.append(stream, [CODEC.encode(event)], expected_version=ANY)
            position = appended.commit_position
        return position

    async def caught_up(self) -> None:
        await self.runner.wait_for(self.store.last_position, WAIT)
        await self.models.clean()

    def rebuild(self, **changes: Any) -> ReadModelRebuild:
        values = {"origin": self.origin, "live": Live(self.models, self.runner), **changes}
        return ReadModelRebuild(self.store, self.decoder, self.path, **values)

    async def rebuilt(self) -> int:
        return await self.rebuild().rebuild(lambda done, total: self.progress.append((done, total)))

    async def from_scratch(self) -> Path:
        """Built by itself, elsewhere."""
        path = self.path.with_name("scratch.db")
        await rebuild(self.store, self.decoder, path, origin=self.origin)
        return path

    async def rows(self) -> list[Any]:
        selection = select_runs(await self.models.video(VIDEO))
        return [row async for page in pages(self.models, selection) for row in page]


async def pages(models: ReadModels, selection: Selection) -> AsyncIterator[list[Any]]:
    """The rows of an answer, a few at a time."""
    cursor, end = START, False
    while not end:
        page = await models.results_page(
            selection, ResultFilter(), base_url="http://x", cursor=cursor, limit=64
        )
        yield msgspec.json.decode(b"[" + page.text + b"]")
        cursor, end = page.cursor, page.end


@asynccontextmanager
async def in_use(folder: Path) -> AsyncIterator[Running]:
    decoder = Forgiving()
    store = await SqliteEventStore.open(folder / "events.db")
    running = Running(folder / "read.db", store, decoder)
    running.models = await ReadModels.open(running.path, decoder, origin=running.origin)
    running.runner = ProjectionRunner(store, running.models.projection)
    try:
        async with running.runner:
            yield running
    finally:
        await running.models.close()
        await store.close()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with in_use(tmp_path) as running:
        yield running


async def test_the_rebuilt_takes_the_place_of_the_one_in_use(running: Running) -> None:
    await running.happened(*whole_video((OBJECTS, COLORS), frames=200))
    await running.caught_up()
    before = await running.rows()
    events = running.store.last_position
    assert await running.rebuilt() == events
    assert running.progress[-1] == (events, events)
    assert await running.rows() == before
    assert running.models.generation == 1
    assert not files.beside(running.path).exists()
    found = assert_same_rows(running.path, await running.from_scratch())
    assert count(found, "results") == 400


async def test_it_goes_on_with_the_new_file(running: Running) -> None:
    await running.happened(*whole_video(frames=5))
    await running.rebuilt()
    position = await running.happened(analysed([6, 7]), *completed(7))
    await running.runner.wait_for(position, WAIT)
    assert [row["frame_number"] for row in await running.rows()] == list(range(1, 8))
    await running.rebuilt()
    await running.happened((video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0)))
    await running.caught_up()
    found = assert_same_rows(running.path, await running.from_scratch())
    assert count(found, "results") == count(found, "doomed") == 0
    assert running.models.generation == 2


async def test_events_arrive_while_it_is_rebuilt(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two of its pages, and every writer sees its write in the read models at once."""
    monkeypatch.setattr(rebuilding, "_PAGE", 7)
    await running.happened(*whole_video((OBJECTS, COLORS), frames=30))
    await running.caught_up()
    done = asyncio.Event()

    async def write() -> int:
        number = 0
        while not done.is_set() or number < 50:
            number += 1
            frames = range(100 + 3 * number, 103 + 3 * number)
            position = await running.happened(stored(frames), analysed(frames), analysed(frames, COLORS))
            await running.runner.wait_for(position, WAIT)
            assert (await running.models.video(VIDEO)).runs[0].greatest_frame_analyzed == frames[-1]
        return number

    writing = asyncio.create_task(write())
    for _ in range(3):
        await running.rebuilt()
    done.set()
    written = await writing
    await running.caught_up()
    found = assert_same_rows(running.path, await running.from_scratch())
    assert count(found, "frames") == 30 + 3 * written


async def test_poisonous_events_are_parked_as_they_were(running: Running) -> None:
    await running.happened(*whole_video(frames=5))
    bad = msgspec.structs.replace(CODEC.encode(analysed([71])[1]), data=b"{")
    await running.store.append(results_stream(RUN, 0), [bad], expected_version=ANY)
    await running.happened(analysed([72]), stored([72]))
    await running.caught_up()
    scratch = await running.from_scratch()
    assert count(assert_same_rows(running.path, scratch), "parked") == 2
    await running.rebuilt()
    assert count(assert_same_rows(running.path, scratch), "parked") == 2
    assert running.models.projection.parked == 2
    await running.runner.wait_for(await running.happened(analysed([73])), WAIT)
    assert count(assert_same_rows(running.path, await running.from_scratch()), "parked") == 3


async def test_an_answer_under_way_ends_with_the_rows_that_it_began_with(running: Running) -> None:
    """The first video was unreadable for the program that projected it: in the new file all numbers are others."""
    running.decoder.refused = {1}
    await running.happened(*submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN))
    numbers = range(1, 3001)
    other = analysed(numbers, run_id=OTHER_RUN, video_id=OTHER_VIDEO, found=())
    await running.happened(*whole_video(frames=3000), other)
    await running.caught_up()
    expected = await running.rows()
    video = await running.models.video(VIDEO)
    answer = pages(running.models, select_runs(video))
    rows = await anext(answer)

    running.decoder.refused = set()
    await running.rebuilt()
    assert (await running.models.video(VIDEO)).video_no != video.video_no
    frame = await running.models.frame(video, 7)
    rows += [row async for page in answer for row in page]
    assert rows == expected
    assert len(expected) == 3000
    assert await running.rows() == expected
    assert await running.models.frame(await running.models.video(VIDEO), 7) == frame


async def test_a_document_under_way_ends_with_the_frames_that_it_began_with(running: Running) -> None:
    running.decoder.refused = {1}
    await running.happened(*submitted(video_id=OTHER_VIDEO, run_id=OTHER_RUN))
    numbers = range(1, 31)
    other = [
        stored(numbers, OTHER_VIDEO),
        analysed(numbers, run_id=OTHER_RUN, video_id=OTHER_VIDEO, found=()),
    ]
    await running.happened(*whole_video(frames=30), *other)
    await running.caught_up()
    video = await running.models.video(VIDEO)
    document = findings_pages(running.models, video, select_runs(video), ResultFilter(), 4)
    frames = [*await anext(document)]
    running.decoder.refused = set()
    await running.rebuilt()
    assert (await running.models.video(VIDEO)).video_no != video.video_no
    frames += [frame async for page in document for frame in page]
    assert [(frame.frame_number, frame.detections) for frame in frames] == [(n, (CAR,)) for n in numbers]


async def test_the_old_file_is_closed_when_nobody_reads_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.happened(*whole_video(frames=5))
    await running.caught_up()
    video = await running.models.video(VIDEO)
    monkeypatch.setattr(queries, "_OUTLIVES_SECONDS", 0.01)
    await running.rebuilt()
    async with asyncio.timeout(WAIT):
        while running.models._older:
            await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError, match="built again in the meantime; ask again"):
        await running.models.frame(video, 1)
    assert await running.models.frame(await running.models.video(VIDEO), 1)


async def test_a_cancelled_rebuild_leaves_the_old_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 2)
    await running.happened(*whole_video(frames=50))
    await running.caught_up()
    begun = asyncio.Event()
    task = asyncio.create_task(running.rebuild().rebuild(lambda done, total: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running.models.generation == 0
    assert not list(running.path.parent.glob("*.rebuild*"))
    await running.runner.wait_for(await running.happened(analysed([60])), WAIT)
    assert len(await running.rows()) == 51


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_cancelled_at_any_step_it_leaves_nothing_behind(running: Running, steps: int) -> None:
    """Also while its file is being made: nobody else would close and remove it."""
    await running.happened(*whole_video(frames=5))
    await running.caught_up()
    task = asyncio.create_task(running.rebuild().rebuild(lambda done, total: None))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert not list(running.path.parent.glob("*.rebuild*"))
    await running.runner.wait_for(await running.happened(analysed([6])), WAIT)
    assert len(await running.rows()) == 6


async def test_a_swap_that_fails_leaves_the_old_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.happened(*whole_video(frames=5))

    def full(beside: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "exchange", full)
        with pytest.raises(OSError, match="No space left"):
            await running.rebuilt()
    await running.runner.wait_for(await running.happened(analysed([6])), WAIT)
    assert len(await running.rows()) == 6
    assert not files.beside(running.path).exists()
    await running.rebuilt()
    assert len(await running.rows()) == 6


@pytest.mark.parametrize("room", [0, -1])
async def test_it_needs_room_on_the_disk(running: Running, room: int) -> None:
    await running.happened(*whole_video(frames=5))
    with pytest.raises(StoreUnavailableError, match=r"needs about 0 MB .* and 0 MB of the disk may be used"):
        await running.rebuild(room=lambda: room).rebuild(lambda done, total: None)
    assert running.models.generation == 0


async def test_it_ends_when_the_disk_fills_up_meanwhile(running: Running) -> None:
    await running.happened(*whole_video(frames=5))
    left = iter([1 << 40, -1])
    with pytest.raises(StoreUnavailableError, match="make room"):
        await running.rebuild(room=lambda: next(left)).rebuild(lambda done, total: None)
    assert not files.beside(running.path).exists()


def damage(path: Path) -> None:
    """All of a file whose log is empty; what is committed then makes its connections forget what they hold of it."""
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO meta VALUES('written', '')")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    connection.execute("COMMIT")
    connection.close()


async def test_damaged_read_models_are_mended_while_they_are_in_use(running: Running) -> None:
    await running.happened(*whole_video(frames=300))
    await running.caught_up()
    await running.models._database.empty_log()
    damage(running.path)
    position = await running.happened(analysed([301]))
    async with asyncio.timeout(WAIT):
        while running.runner.state is not RunnerState.RETRYING:
            await asyncio.sleep(0.01)
    await running.rebuilt()
    await running.runner.wait_for(position, WAIT)
    assert len(await running.rows()) == 301
    assert not files.mark_of(running.path).exists()
    assert_same_rows(running.path, await running.from_scratch())


async def test_what_an_interrupted_rebuild_left_is_swept(running: Running, tmp_path: Path) -> None:
    beside = files.beside(tmp_path / "other.db")
    for suffix in ("", "-journal", "-wal"):
        beside.with_name(beside.name + suffix).write_bytes(b"half")
    models = await ReadModels.open(tmp_path / "other.db", CODEC)
    assert not list(tmp_path.glob("*.rebuild*"))
    await models.close()


@pytest.mark.parametrize("spoil", [None, b"no database" * 1000])
async def test_alone_it_takes_the_place_of_a_file_that_nobody_has_open(
    running: Running, spoil: bytes | None
) -> None:
    await running.happened(*whole_video(frames=5))
    path = await running.from_scratch()
    if spoil is not None:
        path.write_bytes(spoil)
    counted: list[int] = []
    add: Callable[[int, int | None], None] = lambda done, total: counted.append(done)  # noqa: E731
    alone = ReadModelRebuild(running.store, CODEC, path, origin=running.origin)
    assert await alone.rebuild(add) == counted[-1] == running.store.last_position
    await running.caught_up()
    assert_same_rows(path, running.path)
    assert sorted(found.name for found in path.parent.glob("scratch*")) == ["scratch.db"]
