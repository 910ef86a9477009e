"""The read models: what the API reads, and the projection that keeps it up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from monolith.domain.errors import VideoNotFoundError
from monolith.readmodels import frames, results, videos
from monolith.readmodels.cleaning import Cleaner
from monolith.readmodels.database import Database
from monolith.readmodels.files import Origin
from monolith.readmodels.frames import FrameLocation
from monolith.readmodels.projector import EventDecoder, ReadModelProjection
from monolith.readmodels.rendering import with_base
from monolith.readmodels.results import FrameDetections, Page, ResultFilter, Selection
from monolith.readmodels.videos import Metric, Status, VideoView

T = TypeVar("T")


class ReadModels:
    """Queries run in threads on short read transactions. All raise StoreUnavailableError when closed or too busy."""

    def __init__(self, database: Database, decoder: EventDecoder) -> None:
        self._database = database
        self._cleaner = Cleaner(database)
        self.projection = ReadModelProjection(database, decoder, on_doomed=self._cleaner.wake)

    @classmethod
    async def open(
        cls, path: Path, decoder: EventDecoder, *, origin: Origin | None = None, readers: int = 4
    ) -> ReadModels:
        """Open the file at `path`; one of another version, or not made from `origin` (None: any), is made anew, empty,
        its checkpoint None."""
        models = cls(await Database.open(path, origin=origin, readers=readers), decoder)
        models._cleaner.start()
        return models

    async def close(self) -> None:
        await self._cleaner.stop()
        await self._database.close()

    async def clean(self) -> None:
        """Remove all rows of deleted videos that are still there: otherwise that is done by and by."""
        await self._cleaner.finish()

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run `work`, short and read-only, on a snapshot."""
        return await self._database.read(work)

    async def find_video(self, video_id: str) -> VideoView | None:
        return await self._database.read(lambda c: videos.find_video(c, video_id))

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
        return await self._database.read(lambda c: videos.list_videos(c, status, limit, offset, before))

    async def video_counts(self) -> dict[str, int]:
        """How many videos there are of each status."""
        return await self._database.read(videos.count_videos)

    async def parked_count(self) -> int:
        """How many events could not be projected."""
        return await self._database.read(videos.count_parked)

    async def metrics(self, video: VideoView, selection: Selection) -> list[Metric]:
        return await self._database.read(lambda c: videos.video_metrics(c, video, selection.run_numbers))

    async def frame(self, video: VideoView, frame_number: int) -> FrameLocation:
        """Raises FrameNotSampledError, which names the neighbours."""
        return await self._database.read(lambda c: frames.find_frame(c, video.video_no, frame_number))

    async def results_page(
        self,
        selection: Selection,
        wanted: ResultFilter,
        *,
        base_url: str,
        cursor: int = results.START,
        limit: int,
    ) -> Page:
        """See `monolith.readmodels.results.read_page`. `base_url`: the server's address, without a slash at its end."""

        def read(connection: apsw.Connection) -> Page:
            page = results.read_page(connection, selection, wanted, cursor, limit)
            return msgspec.structs.replace(page, text=with_base(page.text, base_url))

        return await self._database.read(read)

    async def frame_detections(self, selection: Selection, frame_number: int) -> list[FrameDetections]:
        """What each model found in a frame, the unsure included."""
        return await self._database.read(lambda c: results.frame_detections(c, selection, frame_number))
