"""Remove what belongs to a deleted video or an expired segment, and spooled sources that no run needs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from eventsourcing.store import EventStore
from monolith.application.ports import Clock, Secrets, Storage
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import RecordPurge, RecordSegmentsPurge
from monolith.domain.events import SegmentsExpired, frames_stream, results_stream
from monolith.domain.jobs import PurgeJob, PurgeSegmentsJob
from monolith.domain.video import Video, expired_numbers

_TOMBSTONES_AT_ONCE: Final = 32
"""The store takes so many together."""


class Purge:
    """Does `PurgeJob`s and `PurgeSegmentsJob`s: safe to repeat after an interruption at any point."""

    def __init__(
        self, streams: VideoStreams, store: EventStore, storage: Storage, secrets: Secrets, clock: Clock
    ) -> None:
        self._streams = streams
        self._store = store
        self._storage = storage
        self._secrets = secrets
        self._clock = clock

    async def run(self, job: PurgeJob) -> None:
        """Files first, then streams (tombstoned, so that a late writer fails), then files that a writer in another copy
        of the program has made meanwhile, then VideoPurged."""
        video = await self._streams.load(job.video_id)
        if not video.deleted or video.purged:
            return
        freed = await self._storage.remove_video(job.video_id) + await self.remove_source(video)
        await self._tombstone(video, [plan.segment for plan in video.segments])
        freed += await self._storage.remove_video(job.video_id)
        await self._streams.execute(job.video_id, RecordPurge(at=self._clock(), bytes_freed=freed))

    async def run_segments(self, job: PurgeSegmentsJob) -> None:
        """For each SegmentsExpired: files first, then streams, then SegmentsPurged. Nobody may write there any more."""
        while (video := await self._streams.load(job.video_id)).expiries and not video.deleted:
            await self._purge_segments(video, video.expiries[0])

    async def _purge_segments(self, video: Video, expiry: SegmentsExpired) -> None:
        segments = expired_numbers(expiry)
        freed = await self._storage.remove_segments(video.video_id, frozenset(segments))
        if is_empty(video):
            freed += await self._storage.remove_video(video.video_id) + await self.remove_source(video)
        await self._tombstone(video, segments)
        purged = RecordSegmentsPurge(at=self._clock(), segments=segments, bytes_freed=freed)
        await self._streams.execute(video.video_id, purged)

    async def _tombstone(self, video: Video, segments: Sequence[int]) -> None:
        names = (
            name
            for segment in segments
            for name in (
                frames_stream(video.video_id, segment),
                *(results_stream(run_id, segment) for run_id in video.runs),
            )
        )
        while batch := list(islice(names, _TOMBSTONES_AT_ONCE)):
            await asyncio.gather(*map(self._store.tombstone_stream, batch))

    async def sweep_sources(self, open_videos: Iterable[Video], *, untouched_for: float = 0.0) -> int:
        """Remove sources of all but `open_videos`: left behind by a crash after a run's end; bytes freed.

        `untouched_for`: only what was not written to for so many seconds. 0: only while nothing is being submitted.
        """
        needed = [video.submitted for video in open_videos if video.submitted is not None]
        video_ids = {video.video_id for video in needed}
        await self._secrets.forget_all_but(video_ids, untouched_for=untouched_for)
        return await self._storage.remove_sources_but(
            video_ids, {video.location for video in needed}, untouched_for=untouched_for
        )

    async def remove_source(self, video: Video) -> int:
        """Remove the source if it is ours (fetched or uploaded); bytes freed."""
        if video.submitted is None or video.submitted.source_kind == "file":
            return 0
        await self._secrets.forget(video.video_id)
        return await self._storage.remove_source(video.video_id, video.submitted.location)


def is_empty(video: Video) -> bool:
    """Whether every segment has expired and no more will come: then its source serves nobody."""
    return video.planned and not video.active_runs() and len(video.expired) == len(video.segments)
