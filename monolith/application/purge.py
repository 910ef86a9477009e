"""Remove what belongs to a deleted video, and spooled sources that no run needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from eventsourcing.store import EventStore
from monolith.application.ports import Clock, Secrets, Storage
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import RecordPurge
from monolith.domain.events import frames_stream, results_stream
from monolith.domain.jobs import PurgeJob
from monolith.domain.video import Video


class Purge:
    """Does `PurgeJob`s: safe to repeat after an interruption at any point."""

    def __init__(
        self, streams: VideoStreams, store: EventStore, storage: Storage, secrets: Secrets, clock: Clock
    ) -> None:
        self._streams = streams
        self._store = store
        self._storage = storage
        self._secrets = secrets
        self._clock = clock

    async def run(self, job: PurgeJob) -> None:
        """Files first, then streams (tombstoned, so that a late writer fails), then VideoPurged."""
        video = await self._streams.load(job.video_id)
        if not video.deleted or video.purged:
            return
        freed = await self._storage.remove_video(job.video_id) + await self.remove_source(video)
        for plan in video.segments:
            await self._store.tombstone_stream(frames_stream(job.video_id, plan.segment))
            for run_id in video.runs:
                await self._store.tombstone_stream(results_stream(run_id, plan.segment))
        await self._streams.execute(job.video_id, RecordPurge(at=self._clock(), bytes_freed=freed))

    async def sweep_sources(self, open_videos: Iterable[Video]) -> int:
        """Remove sources of all but `open_videos`: left behind by a crash after a run's end; bytes freed.

        Only while nothing is being submitted.
        """
        needed = [video.submitted for video in open_videos if video.submitted is not None]
        video_ids = {video.video_id for video in needed}
        await self._secrets.forget_all_but(video_ids)
        return await self._storage.remove_sources_but(video_ids, {video.location for video in needed})

    async def remove_source(self, video: Video) -> int:
        """Remove the source if it is ours (fetched or uploaded); bytes freed."""
        if video.submitted is None or video.submitted.source_kind == "file":
            return 0
        await self._secrets.forget(video.video_id)
        return await self._storage.remove_source(video.video_id, video.submitted.location)
