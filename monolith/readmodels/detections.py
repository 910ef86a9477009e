"""The detections of a video as a Polars table: closed segments from the analytics files, the others from the read
models; each frame once, all as it was at one commit position.

A run's closed segments cover its frames between them where their numbers follow one another: nothing of the run lies
there that is not in their files. What is not covered is read from the read models, up to the position at which the
question was asked. A closed segment whose file is missing or damaged counts as not covered.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec
import polars as pl

from monolith.domain.errors import VideoNotFoundError
from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS
from monolith.readmodels.analytics import Analytics
from monolith.readmodels.analytics_files import STORED_SCHEMA
from monolith.readmodels.analytics_index import IndexedSegment
from monolith.readmodels.open_results import FrameRange, OpenResults
from monolith.readmodels.projector import PROJECTION_NAME
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import ResultFilter, Source, select_runs
from monolith.readmodels.schema import MAX_FRAME_NUMBER
from monolith.readmodels.videos import VideoView, find_video

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TRIES: Final = 3


class Moment(msgspec.Struct, frozen=True):
    """A video at a commit position of the read models."""

    video: VideoView
    position: int


class RunTable(msgspec.Struct, frozen=True):
    """All lines of a run's models, in order, with the columns of `STORED_SCHEMA`; `first_time`, `last_time`: seconds,
    None without any. Lines that the question leaves out may be there or not."""

    run_id: str
    model_keys: tuple[str, ...]
    lines: pl.LazyFrame
    first_time: float | None
    last_time: float | None


class DetectionTables(msgspec.Struct, frozen=True):
    """The tables of the runs that answer, each model once. Valid while the context that gave them is open."""

    video: VideoView
    wanted: ResultFilter
    runs: tuple[RunTable, ...]

    @property
    def span(self) -> tuple[float, float] | None:
        """The times of the first and the last line, in seconds; None without any."""
        times = [t for run in self.runs for t in (run.first_time, run.last_time) if t is not None]
        return (min(times), max(times)) if times else None


class DetectionReader:
    """Brings the two sources together. Without `analytics` everything comes from the read models."""

    def __init__(self, models: ReadModels, analytics: Analytics | None = None) -> None:
        self._models = models
        self._analytics = analytics
        self.scratch = None if analytics is None else analytics.scratch
        """A folder for temporary files; None: the system's."""

    async def ask(
        self,
        video_id: str,
        wanted: ResultFilter,
        work: Callable[[DetectionTables], T],
        *,
        models: Sequence[str] = (),
        run_id: str | None = None,
    ) -> T:
        """What `work` makes of the tables; it runs in a thread, and again where a file went under it. `models`:
        keys; none: all. Raises VideoNotFoundError, StoreUnavailableError, and what `work` raises.

        Where the files are damaged, or keep going away, everything comes from the read models.
        """
        for _ in range(_TRIES if self._analytics else 0):
            try:
                return await self._ask(self._analytics, video_id, wanted, work, models, run_id)
            except FileNotFoundError:
                continue
            except pl.exceptions.PolarsError as error:
                logger.error(
                    "the analytics files of video %s cannot be read (%s); answers about it are slower until"
                    " `video-analysis rebuild --projection analytics` makes them again", video_id, error,
                )  # fmt: skip
                break
        return await self._ask(None, video_id, wanted, work, models, run_id)

    async def _ask(
        self,
        analytics: Analytics | None,
        video_id: str,
        wanted: ResultFilter,
        work: Callable[[DetectionTables], T],
        models: Sequence[str],
        run_id: str | None,
    ) -> T:
        async with AsyncExitStack() as stack:
            if analytics is not None:
                await stack.enter_async_context(analytics.pinned())
            folder = await stack.enter_async_context(_temporary_folder(self.scratch))
            moment = await self._moment(video_id)
            selection = select_runs(moment.video, models=models, run_id=run_id)
            runs = [
                await self._run(analytics, moment, source, wanted, folder) for source in selection.sources
            ]
            tables = DetectionTables(moment.video, wanted, tuple(runs))
            return await self._in_thread(lambda: work(tables))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await (asyncio.to_thread(work) if self._analytics is None else self._analytics.read(work))

    async def _moment(self, video_id: str) -> Moment:
        generation = self._models.generation
        found = await self._models.read(
            lambda connection: _moment(connection, video_id), generation=generation
        )
        if found is None:
            raise VideoNotFoundError(video_id)
        video = msgspec.structs.replace(found.video, generation=generation)
        return msgspec.structs.replace(found, video=video)

    async def _run(
        self, analytics: Analytics | None, moment: Moment, source: Source, wanted: ResultFilter, folder: Path
    ) -> RunTable:
        run_id = next(run.run_id for run in moment.video.runs if run.run_no == source.run_no)
        known = [] if analytics is None else await analytics.closed_segments(run_id)
        closed = [one for one in known if one[0].commit_position <= moment.position and not _lost(*one)]
        parts = list(_parts(closed, len(closed) < len(known), wanted))
        results = OpenResults(
            self._models,
            self._in_thread,
            folder,
            video_id=moment.video.video_id,
            run_id=run_id,
            source=source,
            generation=moment.video.generation,
            position=moment.position,
        )
        gaps = _uncovered([one for one, _ in closed], wanted)
        tables = [(first, await results.table((first, last))) for first, last in gaps]
        parts += [
            _Part(first, table.lines, table.first_time, table.last_time) for first, table in tables if table
        ]
        keys = tuple(MODEL_KEYS[number] for number in source.model_numbers)
        return _run_table(run_id, keys, sorted(parts, key=lambda part: part.first_frame))


class _Part(msgspec.Struct, frozen=True):
    """Lines that follow one another, from `first_frame` on."""

    first_frame: int
    lines: pl.LazyFrame
    first_time: float | None
    last_time: float | None


def _moment(connection: apsw.Connection, video_id: str) -> Moment | None:
    video = find_video(connection, video_id)
    position: Any = connection.execute(
        "SELECT commit_position FROM checkpoints WHERE name = ?", (PROJECTION_NAME,)
    ).get
    return None if video is None else Moment(video, position or 0)


def _run_table(run_id: str, keys: tuple[str, ...], parts: Sequence[_Part]) -> RunTable:
    times = [t for part in parts for t in (part.first_time, part.last_time) if t is not None]
    lines = pl.concat([part.lines for part in parts]) if parts else pl.LazyFrame(schema=STORED_SCHEMA)
    names = [INFERENCE_MODEL_NAMES[key] for key in keys]
    if len(names) < len(MODEL_KEYS):
        lines = lines.filter(pl.col("model").is_in(pl.Series(names, dtype=STORED_SCHEMA["model"]).implode()))
    return RunTable(run_id, keys, lines, min(times, default=None), max(times, default=None))


Closed = tuple[IndexedSegment, Path | None]


def _lost(one: IndexedSegment, path: Path | None) -> bool:
    """Its file should be there. Retention has removed it early, or somebody has: the read models know which."""
    return one.file is not None and path is None


def _parts(closed: Sequence[Closed], some_left_out: bool, wanted: ResultFilter) -> Iterator[_Part]:
    """The files of closed segments that may hold lines of `wanted`. `some_left_out`: a file of several segments may
    hold some that are not among `closed`."""
    by_path: dict[Path, list[IndexedSegment]] = {}
    for one, path in closed:
        if path is not None and _touches(one, wanted):
            by_path.setdefault(path, []).append(one)
    for files in _uninterrupted(list(by_path.items())):
        lines = pl.scan_parquet([path for path, _ in files])
        if some_left_out:
            lines = lines.filter(pl.col("segment").is_in([one.segment for one, _ in closed]))
        first, last = files[0][1][0], files[-1][1][-1]
        assert first.first_frame is not None
        yield _Part(first.first_frame, lines, first.first_time, last.last_time)


Contents = tuple[Path, list[IndexedSegment]]


def _uninterrupted(files: Sequence[Contents]) -> Iterator[list[Contents]]:
    """Files with what they hold, together as long as their segments' numbers follow one another: nothing comes between
    them. (Nothing comes between segments of one file: where a number is missing, it expired.)"""
    together: list[Contents] = []
    for file in files:
        if together and file[1][0].segment != together[-1][1][-1].segment + 1:
            yield together
            together = []
        together.append(file)
    if together:
        yield together


def _touches(one: IndexedSegment, wanted: ResultFilter) -> bool:
    """Whether it may hold lines that are asked for."""
    if one.first_frame is None or one.last_frame is None or one.first_time is None or one.last_time is None:
        return False
    return (
        (wanted.from_frame is None or one.last_frame >= wanted.from_frame)
        and (wanted.to_frame is None or one.first_frame <= wanted.to_frame)
        and (wanted.from_time is None or one.last_time >= wanted.from_time)
        and (wanted.to_time is None or one.first_time <= wanted.to_time)
    )


def _uncovered(closed: Sequence[IndexedSegment], wanted: ResultFilter) -> list[FrameRange]:
    """Frames that no run of closed segments covers, within those asked for."""
    low = wanted.from_frame or 0
    high = MAX_FRAME_NUMBER if wanted.to_frame is None else wanted.to_frame
    ranges: list[FrameRange] = []
    for first, last in _covered(closed):
        if low < first:
            ranges.append((low, min(high, first - 1)))
        low = max(low, last + 1)
    ranges.append((low, high))
    return [(start, end) for start, end in ranges if start <= end]


def _covered(closed: Sequence[IndexedSegment]) -> Iterator[FrameRange]:
    """The frames between the first and the last result of segments whose numbers follow one another."""
    for _, members in groupby(enumerate(closed), key=lambda item: item[1].segment - item[0]):
        frames = [
            frame for _, one in members for frame in (one.first_frame, one.last_frame) if frame is not None
        ]
        if frames:
            yield min(frames), max(frames)


@asynccontextmanager
async def _temporary_folder(parent: Path | None) -> AsyncIterator[Path]:
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, dir=parent)
    try:
        yield Path(folder.name)
    finally:
        await asyncio.shield(asyncio.to_thread(folder.cleanup))
