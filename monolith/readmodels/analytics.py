"""The analytics files and their projection: a file for each segment that a run has completed, read and written in
threads.

The projection follows the videos' streams alone. At SegmentCompleted it reads the segment's results; a segment that
retention has let go, or a deleted video, has none any more. A segment whose results cannot be read is noted and left
out: its rows come from the read models, as those of segments that are not closed do.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore
from monolith.domain.events import (
    FramesAnalysed,
    SegmentClosed,
    SegmentCompleted,
    SegmentsExpired,
    VideoDeleted,
    results_stream,
)
from monolith.readmodels.analytics_files import TableBuilder
from monolith.readmodels.analytics_index import IndexedSegment
from monolith.readmodels.analytics_store import (
    AnalyticsStore,
    Pins,
    exchange_folders,
    finish_exchange,
    indexed,
)
from monolith.readmodels.files import Origin
from monolith.readmodels.projector import EventDecoder
from monolith.threads import to_its_end

T = TypeVar("T")

PROJECTION_NAME: Final = "analytics"
PREFIXES: Final = ("video-",)
BATCH_SIZE: Final = 16
"""Events at a time: each may stand for a file."""

_WANTED: Final = frozenset(kind.__name__ for kind in (SegmentCompleted, SegmentsExpired, VideoDeleted))
_PAGE: Final = 64
_CHECKPOINT_EVERY: Final = 250
"""Events that change nothing need no checkpoint each."""
_NICE: Final = 10
_READERS: Final = 2
_BUSY_SECONDS: Final = 30.0

logger = logging.getLogger(__name__)


class Analytics:
    """The files in use, the thread that writes them and those that read them."""

    def __init__(self, root: Path, store: AnalyticsStore, pins: Pins) -> None:
        self.root = root
        self.scratch = _scratch_of(root)
        """A folder for temporary files."""
        self.pins = pins
        self._store = store
        self._exchange = threading.Lock()
        self._writing = ThreadPoolExecutor(1, "analytics-writer", initializer=_be_nice)
        self._reading = ThreadPoolExecutor(_READERS, "analytics-reader")
        self._turns = asyncio.Semaphore(_READERS)

    @classmethod
    async def open(cls, root: Path, *, origin: Origin | None = None) -> Analytics:
        """Open or make the files at `root`; those not made from `origin` (None: any) are made anew."""
        pins = Pins()
        await asyncio.to_thread(finish_exchange, root)
        await asyncio.to_thread(_empty, _scratch_of(root))
        return cls(root, await asyncio.to_thread(AnalyticsStore.open, root, pins, origin), pins)

    async def close(self) -> None:
        """Finish what runs."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reading.shutdown()
        self._writing.shutdown()
        self._store.close()

    async def exchange(self) -> None:
        """Take what lies `beside` the files, complete, in their place. Only while nothing is applied."""
        await self._run(self._writing, self._take_rebuilt)

    def _take_rebuilt(self) -> None:
        with self._exchange:
            self._store.close()
            try:
                exchange_folders(self.root)
                self.pins.forget()
            finally:
                self._store = AnalyticsStore(self.root, self.pins)

    async def write(self, work: Callable[[AnalyticsStore], T]) -> T:
        """Run `work` in the one thread that writes: it gives way to others."""
        return await self._run(self._writing, lambda: work(self._store))

    async def read(self, work: Callable[[], T]) -> T:
        """Run `work`, a query, in one of the few threads that read. Waits at most 30 s for its turn."""
        try:
            async with asyncio.timeout(_BUSY_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError("too many analytics queries run; try again") from error
        try:
            return await self._run(self._reading, work)
        finally:
            self._turns.release()

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[None]:
        """Files that are named now stay until the end of this context."""
        pin = self.pins.reading()
        pin.__enter__()
        try:
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(pin.__exit__, None, None, None))

    async def closed_segments(self, run_id: str) -> list[tuple[IndexedSegment, Path | None]]:
        """What is closed of a run, in order, with where its lines lie. None: gone; retention may remove a file
        before the projection is told."""
        return await asyncio.to_thread(self._closed_segments, run_id)

    def _closed_segments(self, run_id: str) -> list[tuple[IndexedSegment, Path | None]]:
        with self._exchange:
            found = self._store.index.segments_of(run_id)
            if not found:
                return []
            folder = self.root / found[0].video_id / run_id
            there = {path.name: path for path in folder.glob("*.parquet")}
            return [(one, there.get(one.file or "")) for one in found]

    async def counts(self) -> tuple[int, int]:
        """Segments with an analytics file, and those that could not be read."""
        return await asyncio.to_thread(self._counts)

    def _counts(self) -> tuple[int, int]:
        with self._exchange:
            return self._store.index.count("segments"), self._store.index.count("parked")

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """A cancelled caller waits for the end of what it began: nothing runs without an owner."""
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, work)
        except RuntimeError as error:
            raise StoreUnavailableError("the analytics files are closed") from error
        return await to_its_end(future)


def _scratch_of(root: Path) -> Path:
    return root.with_name(f"{root.name}-scratch")


def _empty(folder: Path) -> None:
    """Make the folder, without what an interruption may have left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _be_nice() -> None:
    """Whatever else the machine does goes first. On Linux a thread has a priority of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class AnalyticsProjection:
    """The `Projection` of the analytics files (see `eventsourcing.projection`)."""

    name = PROJECTION_NAME
    prefixes: Sequence[str] = PREFIXES

    def __init__(self, analytics: Analytics, store: EventStore, codec: EventDecoder) -> None:
        self.segments = 0
        """Closed segments that the files hold, or have held. Any thread may read it."""
        self.parked = 0
        """Segments and events that could not be read."""
        self._analytics = analytics
        self._store = store
        self._codec = codec
        self._unsaved = 0

    async def apply(self, events: list[RecordedEvent]) -> None:
        """Write, remove, then move the checkpoint; done again after an interruption it ends with the same files."""
        changed = False
        for event in events:
            if event.event_type in _WANTED:
                await self._project(self._codec.decode(event), event.commit_position)
                changed = True
        self._unsaved += len(events)
        if changed or self._unsaved >= _CHECKPOINT_EVERY:
            await self._advance(events[-1].commit_position)

    async def checkpoint(self) -> int | None:
        self.segments, self.parked = await self._analytics.counts()
        return await self._analytics.write(lambda files: files.index.checkpoint())

    async def parked_streams(self) -> list[str]:
        """Those with a parked event, in which later ones are parked, too; segments that could not be read are not."""
        found = await self._analytics.write(lambda files: files.index.parked_streams())
        return [name for name in found if name.startswith(PREFIXES)]

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        """Set a poisonous event aside and go on behind it."""
        await self._park(event.commit_position, event.stream_name, event.event_type, error)
        await self._advance(event.commit_position)

    async def _advance(self, position: int) -> None:
        def advance(files: AnalyticsStore) -> None:
            with files.index.change() as change:
                change.advance(position)

        await self._analytics.write(advance)
        self._unsaved = 0
        self.segments, self.parked = await self._analytics.counts()

    async def _park(self, position: int, stream: str, kind: str, error: BaseException) -> None:
        def park(files: AnalyticsStore) -> None:
            with files.index.change() as change:
                change.park(position, stream, kind, error)

        await self._analytics.write(park)

    async def _project(self, event: Any, position: int) -> None:
        match event:
            case SegmentCompleted():
                await self._segment_completed(event, position)
            case SegmentsExpired():
                numbers = [one.segment for one in event.segments]
                await self._analytics.write(lambda files: files.expire(event.video_id, numbers))
            case VideoDeleted():
                await self._analytics.write(lambda files: files.forget(event.video_id))

    async def _segment_completed(self, event: SegmentCompleted, position: int) -> None:
        try:
            await self._add(event, position)
        except (StoreUnavailableError, OSError):
            raise
        except Exception as error:
            # Not parked as an event: the video's further segments, and its end, do not depend on it.
            logger.warning(
                "segment %d of run %s has no analytics file", event.segment, event.run_id, exc_info=True
            )
            stream = results_stream(event.run_id, event.segment)
            await self._park(position, stream, type(event).__name__, error)

    async def _add(self, event: SegmentCompleted, position: int) -> None:
        builder = TableBuilder(event.video_id, event.run_id, event.segment)
        found = await self._read_results(builder, event)
        if found is None:
            return

        def add(files: AnalyticsStore) -> None:
            table = builder.table()
            segment = indexed(
                table,
                video_id=event.video_id,
                run_id=event.run_id,
                segment=event.segment,
                commit_position=position,
            )
            files.add(segment, table if found else None)

        await self._analytics.write(add)

    async def _read_results(self, builder: TableBuilder, event: SegmentCompleted) -> bool | None:
        """Whether the results are there (False: they are gone); None: they are going just now."""
        stream, position, closed = results_stream(event.run_id, event.segment), 0, False
        while events := await self._store.read_stream(stream, from_position=position, limit=_PAGE):
            collect = functools.partial(self._collect, builder, events)
            closed = await self._analytics.write(collect) or closed
            position = events[-1].stream_position + 1
        if closed:
            return True
        return None if position else False

    def _collect(self, builder: TableBuilder, events: list[RecordedEvent], _: AnalyticsStore) -> bool:
        """Whether the segment is closed."""
        closed = False
        for recorded in events:
            event = self._codec.decode(recorded)
            if isinstance(event, FramesAnalysed):
                builder.add(event.model.key, event.frames)
            closed = closed or isinstance(event, SegmentClosed)
        return closed
