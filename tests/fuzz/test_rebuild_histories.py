"""Whatever happened, in whatever order: read models that are rebuilt hold the rows of those that followed it live.

Histories of several videos: runs that complete, fail and are cancelled, segments tried again, frames judged twice or
given up, events that cannot be read, videos deleted and purged, and remains that come too late.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.events import (
    DOMAIN_EVENTS,
    FramesDropped,
    RunCancelled,
    RunFailed,
    SegmentClaimed,
    SegmentCompleted,
    SegmentFailed,
    SourceEnded,
    VideoDeleted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import Live, ReadModelRebuild, rebuild
from tests.readmodel_rows import Rows, assert_same_rows, count
from tests.unit.readmodels.story import (
    COLORS,
    OBJECTS,
    Streamed,
    analysed,
    completed,
    probed,
    requested,
    stored,
    submitted,
)

CODEC = EventCodec(DOMAIN_EVENTS)
WAIT = 60.0
VIDEOS = 3
RUNS = 2
MODELS = (OBJECTS, COLORS)

Step: TypeAlias = tuple[str, int, int, tuple[int, ...]]
"""What happens, to which video, in which of its runs, to which frames."""

KINDS = (
    "request", "probe", "store", "objects", "colors", "drop", "claim", "close", "complete", "fail segment",
    "fail run", "cancel", "end", "poison frames", "poison results", "delete", "purge", "wait", "rebuild",
)  # fmt: skip
STEPS = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, VIDEOS - 1),
    st.integers(0, RUNS - 1),
    st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(lambda found: tuple(sorted(found))),
)


def video_id(video: int) -> str:
    return f"0199aaaa-0000-7000-8000-00000000000{video}"


def run_id(video: int, run: int) -> str:
    return f"0199aaaa-0000-7000-8000-0000000000{video}{run}"


class History:
    """Read models that follow what happens, and are rebuilt now and then."""

    def __init__(self, store: MemoryEventStore, models: ReadModels, runner: ProjectionRunner, path: Path):
        self.deleted: set[int] = set()
        self.rebuilding: asyncio.Task[int] | None = None
        self._store = store
        self._models = models
        self._runner = runner
        self._path = path

    async def take(self, step: Step) -> None:
        kind, video, run, frames = step
        if kind == "wait":
            await self.caught_up()
        elif kind == "rebuild":
            await self.rebuilt()
            self.rebuilding = asyncio.create_task(self._rebuild())
        elif kind == "purge":
            if video in self.deleted:
                await self._purge(video)
        elif kind.startswith("poison"):
            await self._poison(kind, video, run)
        else:
            if kind == "delete":
                self.deleted.add(video)
            await self._append(kind, video, run, frames)

    async def _append(self, kind: str, video: int, run: int, frames: tuple[int, ...]) -> None:
        for stream, event in events_of(kind, video_id(video), run_id(video, run), frames):
            await self._store.append(stream, [CODEC.encode(event)], expected_version=ANY)

    async def _purge(self, video: int) -> None:
        for stream in (
            frames_stream(video_id(video), 0),
            *(results_stream(run_id(video, run), 0) for run in range(RUNS)),
        ):
            await self._store.delete_stream(stream)

    async def _poison(self, kind: str, video: int, run: int) -> None:
        """An event that cannot be read; results come of a run that was requested."""
        name, event = stored([1], video_id(video))
        if kind == "poison results":
            await self._append("request", video, run, (1,))
        stream = name if kind == "poison frames" else results_stream(run_id(video, run), 0)
        bad = msgspec.structs.replace(CODEC.encode(event), data=b"{")
        await self._store.append(stream, [bad], expected_version=ANY)

    async def _rebuild(self) -> int:
        live = Live(self._models, self._runner)
        made = ReadModelRebuild(self._store, CODEC, self._path, live=live)
        return await made.rebuild(lambda done, total: None)

    async def rebuilt(self) -> None:
        if self.rebuilding is not None:
            await self.rebuilding
            self.rebuilding = None

    async def caught_up(self) -> None:
        head = await self._store.head()
        if head is not None:
            await self._runner.wait_for(head, WAIT)


def events_of(kind: str, video: str, run: str, frames: tuple[int, ...]) -> Iterator[Streamed]:
    match kind:
        case "request":
            yield requested(MODELS, video_id=video, run_id=run)
        case "probe":
            yield from probed(40, video_id=video)
        case "store":
            yield stored(frames, video)
        case "objects" | "colors":
            yield analysed(frames, OBJECTS if kind == "objects" else COLORS, run, video)
        case "complete":
            yield from completed(len(frames), run, video_id=video)
        case "drop" | "claim" | "close" | "fail segment":
            yield segment_event(kind, video, run, frames)
        case _:
            yield video_stream(video), video_event(kind, video, run)


def segment_event(kind: str, video: str, run: str, frames: tuple[int, ...]) -> Streamed:
    about: dict[str, Any] = {"video_id": video, "run_id": run, "segment": 0}
    if kind == "drop":
        return frames_stream(video, 0), FramesDropped(**about, frame_numbers=frames, reason="damaged")
    if kind == "claim":
        claimed = SegmentClaimed(**about, attempt=len(frames), owner="me", claimed_at=2.0)
        return results_stream(run, 0), claimed
    if kind == "close":
        done = SegmentCompleted(**about, frames=len(frames), dropped=1, last_frame=frames[-1])
        return video_stream(video), done
    failed = SegmentFailed(**about, attempt=len(frames), reason="bad", permanent=False)
    return video_stream(video), failed


def video_event(kind: str, video: str, run: str) -> Any:
    match kind:
        case "fail run":
            return RunFailed(video_id=video, run_id=run, error="bad", failed_at=3.0)
        case "cancel":
            return RunCancelled(video_id=video, run_id=run, reason="cancelled", cancelled_at=3.0)
        case "end":
            return SourceEnded(video_id=video, frames=40)
        case "delete":
            return VideoDeleted(video_id=video, deleted_at=4.0)
    raise AssertionError(kind)


async def submit(store: MemoryEventStore, video: int) -> None:
    for stream, event in submitted(MODELS, 1, video_id(video), run_id(video, 0)):
        await store.append(stream, [CODEC.encode(event)], expected_version=ANY)


async def lived_and_rebuilt(steps: list[Step], folder: Path) -> Rows:
    """The rows that both have."""
    store, path = MemoryEventStore(), folder / "live.db"
    models = await ReadModels.open(path, CODEC)
    async with ProjectionRunner(store, models.projection, batch_size=5) as runner:
        history = History(store, models, runner, path)
        for video in range(VIDEOS):
            await submit(store, video)
        for step in steps:
            await history.take(step)
        await submit(store, VIDEOS)  # the last event is one that nobody purges: both have come to it
        await history.rebuilt()
        await history.caught_up()
    await models.clean()
    await models.close()
    await rebuild(store, CODEC, folder / "again.db")
    await store.close()
    return assert_same_rows(path, folder / "again.db")


@pytest.fixture(autouse=True)
def few_words(caplog: pytest.LogCaptureFixture) -> None:
    """Each event that is parked is a warning: thousands of them would hide what failed."""
    caplog.set_level("ERROR", "monolith.readmodels.rebuilding")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=60))
def test_the_rebuilt_holds_the_rows_of_the_live_one(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(lived_and_rebuilt(steps, Path(folder)))


def test_a_history_with_everything_in_it(tmp_path: Path) -> None:
    """Not left to chance: each kind of step, in an order in which it has an effect."""
    frames = (1, 2, 3)
    steps: list[Step] = [
        *((kind, 0, 1, frames) for kind in KINDS if not kind.startswith(("poison", "delete", "purge"))),
        *((kind, 1, 0, frames) for kind in ("probe", "store", "poison results", "objects", "rebuild", "objects")),
        *((kind, 2, 0, frames) for kind in ("probe", "store", "objects", "delete", "store", "purge", "rebuild")),
    ]  # fmt: skip
    found = asyncio.run(lived_and_rebuilt(steps, tmp_path))
    assert [count(found, table) for table in ("videos", "runs", "parked", "doomed")] == [3, 4, 3, 0]
    assert count(found, "results") == count(found, "frames") == 6


@pytest.mark.parametrize("kind", ["poison frames", "poison results", "store", "objects"])
@pytest.mark.parametrize("order", [("delete", "late"), ("late", "delete")])
def test_remains_that_were_purged_leave_nothing(kind: str, order: tuple[str, str], tmp_path: Path) -> None:
    """Seen by the live read models before they went, and never by the rebuilt ones."""
    kinds = ("wait", *(kind if one == "late" else one for one in order), "wait", "purge")
    found = asyncio.run(lived_and_rebuilt([(one, 0, 1, (1, 2)) for one in kinds], tmp_path))
    assert [count(found, table) for table in ("videos", "parked", "frames", "results")] == [3, 0, 0, 0]
