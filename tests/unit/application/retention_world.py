"""A program that does nothing but retention, over a store and files that can crash at any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import AppendResult, NewEvent
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY, ExpectedVersion
from monolith.application.expiring import Expiring
from monolith.application.open_videos import OpenVideos, Snapshot
from monolith.application.purge import Purge
from monolith.application.retention import Retention
from monolith.application.retention_report import DAY_SECONDS, RetentionReport, RetentionRequest
from monolith.application.video_stream import VideoStreams
from monolith.domain.events import DOMAIN_EVENTS, FramesStored
from monolith.domain.jobs import PurgeJob, PurgeSegmentsJob
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilding import rebuild
from monolith.readmodels.retention import RetentionQueries
from monolith.secret_urls import SecretUrls
from monolith.storage import FileStorage, RetentionFile
from tests.histories import JPEG_BYTES, Step
from tests.readmodel_rows import Rows, rows
from tests.unit.application.scripted import Crash

CODEC = EventCodec(DOMAIN_EVENTS)
START = 1_700_000_000.0
NEVER = 10**9


class Fuse:
    """Lets so many writes happen, and ends the process in the next one: before it has happened, or after."""

    def __init__(self) -> None:
        self.left = NEVER
        self.after = False

    def before(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Crash

    def done(self) -> None:
        if self.left < 0:
            raise Crash


class CrashingStore(MemoryEventStore):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__(clock=lambda: self.now)
        self.now = START
        self._fuse = fuse

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        self._fuse.before()
        result = await super().append(stream_name, events, expected_version=expected_version)
        self._fuse.done()
        return result

    async def tombstone_stream(self, stream_name: str) -> None:
        self._fuse.before()
        await super().tombstone_stream(stream_name)
        self._fuse.done()


class CrashingStorage(FileStorage):
    def __init__(self, folder: Path, fuse: Fuse) -> None:
        super().__init__(folder)
        self._fuse = fuse

    async def remove_segments(self, video_id: str, segments: Set[int]) -> int:
        self._fuse.before()
        freed = await super().remove_segments(video_id, segments)
        self._fuse.done()
        return freed


class World:
    """One store, one folder. Each `living` is a life of the process, which ends when a write hits the fuse."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.fuse = Fuse()
        self.store = CrashingStore(self.fuse)
        self.storage = CrashingStorage(folder, self.fuse)
        self.storage.prepare()

    async def happen(self, history: Sequence[tuple[float, Step]]) -> None:
        """`history`: with the day of each event."""
        for day, (stream, event) in history:
            self.store.now = START + day * DAY_SECONDS
            await self.store.append(stream, [CODEC.encode(event)], expected_version=ANY)
            if isinstance(event, FramesStored):
                await self._write(event)

    async def _write(self, event: FramesStored) -> None:
        await self.storage.prepare_video(event.video_id)
        pack = self.storage.pack_path(event.video_id, event.pack)
        pack.write_bytes(b"x" * (JPEG_BYTES * len(event.frames)))

    def days_later(self, days: float) -> None:
        self.store.now += days * DAY_SECONDS

    @asynccontextmanager
    async def living(self, name: str = "live.db") -> AsyncIterator[Life]:
        """The read models are in the file `name`, and up to date at the beginning."""
        models = await ReadModels.open(self.folder / name, CODEC)
        runner = ProjectionRunner(self.store, models.projection)
        try:
            async with runner:
                life = Life(self, models, runner)
                await life.caught_up()
                async with life.retention:
                    yield life
        finally:
            await models.close()

    async def let_go(self, days: float, keep: Sequence[str] = (), crash_at: int = NEVER) -> RetentionReport:
        """One life with a retention, after what an earlier one has left is purged. Raises Crash."""
        async with self.living() as life:
            self.fuse.left = crash_at
            try:
                await life.finish_purges()
                return await life.let_go(RetentionRequest(days=days, keep=frozenset(keep)))
            finally:
                self.fuse.left = NEVER

    async def lag(self, events: int, name: str = "lagging.db") -> None:
        """Read models that have seen so many events and no more."""
        models = await ReadModels.open(self.folder / name, CODEC)
        if seen := await self.store.read_all(limit=events):
            await models.projection.apply(seen)
        await models.close()

    async def rows(self, name: str = "live.db") -> Rows:
        """Of read models that are brought up to date, and cleaned."""
        async with self.living(name) as life:
            await life.models.clean()
        return rows(self.folder / name)

    async def rebuilt_rows(self) -> Rows:
        path = self.folder / "rebuilt.db"
        await rebuild(self.store, CODEC, path)
        return rows(path)

    async def streams(self) -> dict[str, list[str]]:
        """Stream name → event types in it."""
        found: dict[str, list[str]] = {}
        for event in await self.store.read_all(limit=100_000):
            found.setdefault(event.stream_name, []).append(event.event_type)
        return found

    def files(self) -> list[str]:
        """What is stored of videos."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in (self.folder / "videos").rglob("*")
            if path.is_file()
        )


class Life:
    """A running program."""

    def __init__(self, world: World, models: ReadModels, runner: ProjectionRunner) -> None:
        self.models = models
        self.runner = runner
        self.store = world.store
        self.streams = VideoStreams(world.store, CODEC)
        self.purge = Purge(
            self.streams, world.store, world.storage, SecretUrls(world.folder), lambda: world.store.now
        )
        self.expiring = Expiring(world.store, CODEC, self.streams, lambda: world.store.now)
        self.retention = Retention(
            world.store,
            CODEC,
            self.streams,
            world.storage,
            RetentionQueries(models, runner),
            RetentionFile(world.folder),
            lambda: world.store.now,
            purger=self._purge_segments,
        )

    async def _purge_segments(self, video_id: str) -> None:
        await self.purge.run_segments(PurgeSegmentsJob(video_id))

    async def finish_purges(self) -> None:
        """As a process manager does it when it starts."""
        opened = OpenVideos(Snapshot())
        opened.note(await self.store.read_all(prefixes=("video-",), limit=100_000))
        for video_id in opened:
            video = await self.streams.load(video_id)
            if video.deleted:
                await self.purge.run(PurgeJob(video_id))
            elif video.expiries:
                await self._purge_segments(video_id)

    async def let_go(self, request: RetentionRequest) -> RetentionReport:
        """Raises Crash."""
        report = await self.retention.start(request)
        await self.retention.wait(10.0)
        task: asyncio.Task[Any] | None = self.retention._task
        assert task is not None
        task.result()
        return report

    async def caught_up(self) -> None:
        head = await self.store.head()
        if head is not None:
            await self.runner.wait_for(head, 10.0)
