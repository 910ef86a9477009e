"""Find out what a source is: bring it to the disk, probe and scan it, plan its segments; or, where its pictures are
taken as they come, connect to it and see what comes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.ports import Clock, Decoders, Fetcher, Publishers, Storage
from monolith.application.source_access import SourceAccesses
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import FailVideo, RecordProbe, VideoCommand
from monolith.domain.events import PushKind, Transport, VideoProbed, VideoSubmitted
from monolith.domain.jobs import LookJob, ProbeJob
from monolith.domain.requests import is_rtsp
from monolith.domain.segment import SourceInfo
from monolith.ingest.messages import SourceAccess

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LONGEST_PUSHED_PAUSE: Final = 2.0
_FIRST_PATIENCE: Final = 5.0
"""Seconds for which a source may say nothing when it is tried first: many are asked, and most answer at once."""

logger = logging.getLogger(__name__)


class _Found(msgspec.Struct, frozen=True):
    path: Path
    spooled: bool


class Ingestion:
    """Does `LookJob`s and `ProbeJob`s. Raises RetryableFailure when another try may succeed; a bad source fails the
    video."""

    def __init__(
        self,
        streams: VideoStreams,
        fetcher: Fetcher,
        decoders: Decoders,
        storage: Storage,
        accesses: SourceAccesses,
        publishers: Publishers,
        clock: Clock,
        *,
        segment_seconds: float,
        live_silence: float,
        publish_wait: float,
        live_probes: int = 4,
    ) -> None:
        """`publish_wait`: for so many seconds a first publisher is waited for; `live_silence`: and a source that is
        followed; `live_probes`: how many at the same time are being connected to for the first time, and how many
        again: one that is new does not wait for those that say nothing."""
        self._streams = streams
        self._fetcher = fetcher
        self._decoders = decoders
        self._storage = storage
        self._accesses = accesses
        self._publishers = publishers
        self._clock = clock
        self._segment_seconds = segment_seconds
        self._live_silence = live_silence
        self._publish_wait = publish_wait
        self._first_tries = asyncio.Semaphore(live_probes)
        self._later_tries = asyncio.Semaphore(live_probes)

    async def look(self, job: LookJob) -> Transport | None:
        """How the pictures of a video come. None: nobody wants to know any more, or RunFailed is recorded, with the
        reason why it cannot be told."""
        video = await self._streams.load(job.video_id)
        if video.submitted is None or video.probe is not None or not video.active_runs():
            return None
        try:
            return await self._transport_of(video.submitted)
        except SourceFailure as error:
            await self._streams.execute(job.video_id, FailVideo(at=self._clock(), reason=str(error)))
            return None

    async def run(self, job: ProbeJob) -> None:
        """Record VideoProbed (of a file SegmentsPlanned, too), or RunFailed with the reason."""
        video = await self._streams.load(job.video_id)
        if video.submitted is None or video.probe is not None or not video.active_runs():
            return
        self._storage.require_room()
        await self._storage.prepare_video(job.video_id)
        try:
            transport = job.transport or await self._transport_of(video.submitted)
            command: VideoCommand = await self._ingest(video.submitted, transport)
        except SourceFailure as error:
            self._storage.require_room()  # a full disk is not the source's fault
            command = FailVideo(at=self._clock(), reason=str(error))
        await self._streams.execute(job.video_id, command)

    async def _ingest(self, video: VideoSubmitted, transport: Transport) -> RecordProbe:
        if transport == "rtmp" or transport == "webrtc":
            return await self._ingest_pushed(video, transport)
        started = time.perf_counter()
        if transport == "file":
            return await self._ingest_file(video, started)
        return self._followed(await self._probe_followed(video, transport), transport, started)

    def _followed(self, source: SourceInfo, transport: Transport, started: float) -> RecordProbe:
        return RecordProbe(
            at=self._clock(),
            path="",
            spooled=False,
            size_bytes=0,
            source=source,
            ingest_seconds=time.perf_counter() - started,
            transport=transport,
        )

    async def _ingest_pushed(self, video: VideoSubmitted, kind: PushKind) -> RecordProbe:
        """Wait for the first publisher who sends pictures; one whose pictures are none is tried again behind those who
        are new."""
        tries = self._first_tries
        until, pause = time.monotonic() + self._publish_wait, _FIRST_PAUSE
        while await self._publishers.wait(video.video_id, max(0.0, until - time.monotonic())):
            started = time.perf_counter()
            try:
                async with tries:
                    access = await self._accesses.of(video, kind, look=True)
                    return self._followed(
                        await self._decoders.probe_source(_impatient(access)), kind, started
                    )
            except RetryableFailure as error:
                logger.warning("video %s: its publisher gave no picture: %s", video.video_id, error)
                if self._publishers.give_up(video.video_id):
                    raise SourceFailure(
                        f"no picture of what was published can be decoded: {error}"
                    ) from error
            tries = self._later_tries
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PUSHED_PAUSE)
        raise SourceFailure(f"nobody published within {self._publish_wait:g} s; ask for a new endpoint")

    async def _transport_of(self, video: VideoSubmitted) -> Transport:
        if video.source_kind == "rtmp" or video.source_kind == "webrtc":
            return video.source_kind
        if video.source_kind != "url":
            return "file"
        if is_rtsp(video.location):
            return "rtsp"
        return await self._fetcher.transport_of(await self._accesses.url_of(video))

    async def _probe_followed(self, video: VideoSubmitted, transport: Transport) -> SourceInfo:
        """A camera may be starting, too: it is asked again for as long as a live source may be silent, from when there
        is a place for it. The first try is a short one."""
        access = await self._accesses.of(video, transport)
        tries, asked = self._first_tries, _impatient(access)
        until, pause = math.inf, _FIRST_PAUSE
        while True:
            try:
                async with tries:
                    until = min(until, time.monotonic() + self._live_silence)
                    return await self._decoders.probe_source(asked)
            except RetryableFailure as error:
                if time.monotonic() + pause > until:
                    raise SourceFailure(
                        f"the source gave no picture within {self._live_silence:g} s: {error}"
                    ) from error
            await asyncio.sleep(pause)
            tries, asked = self._later_tries, access
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _ingest_file(self, video: VideoSubmitted, started: float) -> RecordProbe:
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
            await self._fetcher.fetch(await self._accesses.url_of(video), target)
            return _Found(target, spooled=True)
        return _Found(Path(video.location), spooled=video.source_kind == "upload")


def _impatient(access: SourceAccess) -> SourceAccess:
    return msgspec.structs.replace(
        access,
        connect_timeout=min(access.connect_timeout, _FIRST_PATIENCE),
        read_timeout=min(access.read_timeout, _FIRST_PATIENCE),
    )


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
