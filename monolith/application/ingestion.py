"""Bring a source to the disk, probe and scan it, plan its segments."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec

from monolith.application.errors import SourceFailure
from monolith.application.ports import Clock, Decoders, Fetcher, Secrets, Storage
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import FailVideo, RecordProbe, VideoCommand
from monolith.domain.events import VideoProbed, VideoSubmitted
from monolith.domain.jobs import ProbeJob


class _Found(msgspec.Struct, frozen=True):
    path: Path
    spooled: bool


class Ingestion:
    """Does `ProbeJob`s. Raises RetryableFailure when another try may succeed; a bad source fails the video."""

    def __init__(
        self,
        streams: VideoStreams,
        fetcher: Fetcher,
        decoders: Decoders,
        storage: Storage,
        secrets: Secrets,
        clock: Clock,
        *,
        segment_seconds: float,
    ) -> None:
        self._streams = streams
        self._fetcher = fetcher
        self._decoders = decoders
        self._storage = storage
        self._secrets = secrets
        self._clock = clock
        self._segment_seconds = segment_seconds

    async def run(self, job: ProbeJob) -> None:
        """Record VideoProbed and SegmentsPlanned, or RunFailed with the reason."""
        video = await self._streams.load(job.video_id)
        if video.submitted is None or video.probe is not None or not video.active_runs():
            return
        self._storage.require_room()
        await self._storage.prepare_video(job.video_id)
        try:
            command: VideoCommand = await self._ingest(video.submitted)
        except SourceFailure as error:
            self._storage.require_room()  # a full disk is not the source's fault
            command = FailVideo(at=self._clock(), reason=str(error))
        await self._streams.execute(job.video_id, command)

    async def _ingest(self, video: VideoSubmitted) -> RecordProbe:
        started = time.perf_counter()
        found = await self._bring(video)
        before = await _status(found.path)
        scan_path = self._storage.scan_path(video.video_id)
        source = await self._decoders.probe(found.path, scan_path, self._segment_seconds)
        return RecordProbe(
            at=self._clock(),
            path=str(found.path),
            spooled=found.spooled,
            size_bytes=before.st_size,
            source=source,
            ingest_seconds=time.perf_counter() - started,
            modified_ns=before.st_mtime_ns,
        )

    async def _bring(self, video: VideoSubmitted) -> _Found:
        if video.source_kind == "url":
            target = self._storage.spool_path(video.video_id)
            url = await self._secrets.url_of(video.video_id) or video.location
            await self._fetcher.fetch(url, target)
            return _Found(target, spooled=True)
        return _Found(Path(video.location), spooled=video.source_kind == "upload")


async def _status(path: Path) -> os.stat_result:
    try:
        return await asyncio.to_thread(path.stat)
    except OSError as error:
        raise SourceFailure(f"the file cannot be read: {error.strerror}") from error


async def require_unchanged(probe: VideoProbed) -> None:
    """Raises SourceFailure when the file is gone, or is not the one that was scanned."""
    now = await _status(Path(probe.path))
    if probe.modified_ns is not None and (now.st_size, now.st_mtime_ns) != (
        probe.size_bytes,
        probe.modified_ns,
    ):
        raise SourceFailure("the file was changed while it was being analysed; submit it again")
