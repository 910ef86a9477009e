"""The read models: what the API reads, and the projection that keeps it up to date.

Behind them lies one file, and for a while after an exchange (see `rebuilding`) the one before. Numbers of videos and
runs belong to a file: what was found in one carries its `generation`, and is looked up there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.domain.errors import VideoNotFoundError
from monolith.readmodels import files, frames, results, videos
from monolith.readmodels.cleaning import Cleaner
from monolith.readmodels.connections import ConnectionView, list_connections
from monolith.readmodels.database import Database
from monolith.readmodels.files import Origin
from monolith.readmodels.frames import FrameLocation
from monolith.readmodels.projector import EventDecoder, ReadModelProjection
from monolith.readmodels.rendering import with_base
from monolith.readmodels.results import FrameDetections, Page, ResultFilter, Selection
from monolith.readmodels.videos import Metric, Status, VideoView
from monolith.threads import in_thread

T = TypeVar("T")

_OUTLIVES_SECONDS: Final = 120.0
"""How long a file that was exchanged is kept after its last read: longer than an answer may stand still."""

logger = logging.getLogger(__name__)


class ReadModels:
    """Queries run in threads on short read transactions. All raise StoreUnavailableError when closed or too busy."""

    def __init__(self, database: Database, decoder: EventDecoder) -> None:
        self.generation = 0
        """Of the file that is kept up to date; it grows by one when another takes its place."""
        self._database = database
        self._older: dict[int, Database] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._cleaner = Cleaner(database)
        self.projection = ReadModelProjection(database, decoder, on_doomed=lambda: self._cleaner.wake())

    @classmethod
    async def open(
        cls, path: Path, decoder: EventDecoder, *, origin: Origin | None = None, readers: int = 4
    ) -> ReadModels:
        """Open the file at `path`; one of another version, or not made from `origin` (None: any), is made anew, empty,
        its checkpoint None."""
        await asyncio.to_thread(files.remove_database, files.beside(path))  # an interrupted rebuild left it
        models = cls(await Database.open(path, origin=origin, readers=readers), decoder)
        models._cleaner.start()
        return models

    async def close(self) -> None:
        """Idempotent."""
        await self._cleaner.stop()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for database in (*self._older.values(), self._database):
            await database.close()

    async def clean(self) -> None:
        """Remove all rows of deleted videos that are still there: otherwise that is done by and by."""
        await self._cleaner.finish()

    async def exchange(self, beside: Path) -> None:
        """Put the sealed file at `beside` in the place of the present one, which has seen no more events than it.

        Only while nothing is applied (see `ProjectionRunner.paused`). Nobody waits: what was found in the old file is
        looked up there until it is no longer asked. Raises StoreUnavailableError and OSError; then the old one stays.
        """
        await self._cleaner.stop()
        try:
            await self._exchange(beside)
        finally:
            self._cleaner = Cleaner(self._database)
            self._cleaner.start()

    async def _exchange(self, beside: Path) -> None:
        old = self._database
        if not await asyncio.to_thread(files.mark_of(old.path).exists):  # else there is nothing worth keeping
            await old.empty_log()
        await in_thread(files.exchange, beside, old.path)
        self._database = await Database.open_sealed(old.path, readers=old.readers)
        self.projection.use(self._database)
        self._older[self.generation] = old
        task = asyncio.create_task(self._close_unused(self.generation, old), name="old read models")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self.generation += 1

    async def _close_unused(self, generation: int, old: Database) -> None:
        left = _OUTLIVES_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = old.last_read + _OUTLIVES_SECONDS - time.monotonic()
        del self._older[generation]
        await old.close()
        logger.info("the read models from before the rebuild are no longer read and were closed")

    def _of(self, generation: int | None) -> Database:
        if generation is None or generation == self.generation:
            return self._database
        if generation not in self._older:
            raise StoreUnavailableError("the read models were built again in the meantime; ask again")
        return self._older[generation]

    async def read(self, work: Callable[[apsw.Connection], T], *, generation: int | None = None) -> T:
        """Run `work`, short and read-only, on a snapshot. `generation`: of the numbers that it looks up, if any."""
        return await self._of(generation).read(work)

    async def find_video(self, video_id: str) -> VideoView | None:
        generation = self.generation
        found = await self._database.read(lambda c: videos.find_video(c, video_id))
        return None if found is None else msgspec.structs.replace(found, generation=generation)

    async def video(self, video_id: str) -> VideoView:
        """Raises VideoNotFoundError."""
        found = await self.find_video(video_id)
        if found is None:
            raise VideoNotFoundError(video_id)
        return found

    async def videos(
        self,
        *,
        status: Status | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: int | None = None,
    ) -> list[VideoView]:
        """Videos whose first run has `status` (None: any), the newest first; `before`: older than this `video_no`."""
        generation = self.generation
        found = await self._database.read(lambda c: videos.list_videos(c, status, limit, offset, before))
        return [msgspec.structs.replace(video, generation=generation) for video in found]

    async def video_counts(self) -> dict[str, int]:
        """How many videos there are of each status."""
        return await self._database.read(videos.count_videos)

    async def parked_count(self) -> int:
        """How many events could not be projected."""
        return await self._database.read(videos.count_parked)

    async def metrics(self, video: VideoView, selection: Selection) -> list[Metric]:
        database = self._of(video.generation)
        return await database.read(lambda c: videos.video_metrics(c, video, selection.run_numbers))

    async def connections(self, video: VideoView, *, after: int = 0, limit: int) -> list[ConnectionView]:
        """Of a live source, in order; at most `limit` with a number above `after`."""
        database = self._of(video.generation)
        return await database.read(lambda c: list_connections(c, video.video_no, after, limit))

    async def frame(self, video: VideoView, frame_number: int) -> FrameLocation:
        """Raises FrameNotSampledError, which names the neighbours."""
        database = self._of(video.generation)
        return await database.read(lambda c: frames.find_frame(c, video.video_no, frame_number))

    async def results_page(
        self,
        selection: Selection,
        wanted: ResultFilter,
        *,
        base_url: str,
        cursor: int = results.START,
        limit: int,
        separator: bytes = b",",
    ) -> Page:
        """See `monolith.readmodels.results.read_page`. `base_url`: the server's address, without a slash at its end."""

        def read(connection: apsw.Connection) -> Page:
            page = results.read_page(connection, selection, wanted, cursor, limit, separator)
            return msgspec.structs.replace(page, text=with_base(page.text, base_url))

        return await self._of(selection.generation).read(read)

    async def frame_detections(self, selection: Selection, frame_number: int) -> list[FrameDetections]:
        """What each model found in a frame, the unsure included."""
        database = self._of(selection.generation)
        return await database.read(lambda c: results.frame_detections(c, selection, frame_number))
