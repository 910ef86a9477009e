from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4 as new_event_id

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.events import NewEvent
from eventsourcing.versions import NO_STREAM
from monolith.application.attempt import Resources
from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.following import Following
from monolith.application.handlers import FrameOptions, Submitted, VideoHandlers
from monolith.application.ingestion import Ingestion
from monolith.application.leadership import Leadership
from monolith.application.open_videos import Snapshot, load_open_videos
from monolith.application.pipeline import SegmentPipeline
from monolith.application.placement import Placement
from monolith.application.process_manager import ProcessManager
from monolith.application.purge import Purge
from monolith.application.push_sources import PushSources
from monolith.application.segments import Segments
from monolith.application.source_access import SourceAccesses
from monolith.application.video_stream import VideoStreams
from monolith.domain.errors import InvalidRequestError, NotPossibleError, VideoNotFoundError
from monolith.domain.events import DOMAIN_EVENTS, Transport
from monolith.domain.run import Run
from monolith.domain.segment import SourceInfo
from monolith.inference.shared_memory import SlotPool
from monolith.live.feeds import LiveFeeds
from monolith.live.handover import FeedHandover
from monolith.secret_urls import SecretUrls
from monolith.storage import FileStorage, SnapshotFile
from tests.builders import source
from tests.unit.application.scripted import ANYWHERE, OpenGate, ScriptedInference
from tests.unit.application.scripted_sources import ScriptedSources

MODELS = ["objects_detection"]


class ProbingDecoders(ScriptedSources):
    """Finds an indexed source of `frames` pictures in two segments, or raises what it is told to."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.probe_errors: list[Exception] = []
        self.probes = 0

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo:
        self.probes += 1
        if self.probe_errors:
            raise self.probe_errors.pop(0)
        return source(frames=self.frames, segments=2)


class CopyingFetcher:
    """A web of one file, or of what comes as `transports` (else `transport`) says. Files of `slow` URLs never come."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.transport: Transport = "file"
        self.transports: dict[str, Transport] = {}
        self.slow: set[str] = set()
        self.looked_at: list[str] = []

    async def transport_of(self, url: str) -> Transport:
        self.looked_at.append(url)
        return self.transports.get(url, self.transport)

    async def fetch(self, url: str, target: Path) -> int:
        self.fetched.append(url)
        if url in self.slow:
            await asyncio.Event().wait()
        target.write_bytes(b"video")
        return 5


class World:
    """The application on one store and one folder; `running` is one life of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryEventStore()
        self.streams = VideoStreams(self.store, EventCodec(DOMAIN_EVENTS))
        self.storage = FileStorage(folder)
        self.storage.prepare()
        self.secrets = SecretUrls(folder)
        self.publish_wait = 60.0
        self.snapshots = SnapshotFile(folder, "store-1")
        self.decoders: ProbingDecoders = ProbingDecoders(40)
        self.live_sources = 4
        self.live_silence = 60.0
        self.fetcher = CopyingFetcher()
        options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
        self.handlers = VideoHandlers(self.streams, self.store, OpenGate(), self.secrets, options, time.time)
        self.push = PushSources(self.handlers, self.streams, self.secrets, LiveFeeds())
        self.placement: Placement | None = None
        self.leadership: Leadership | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ProcessManager]:
        resources = Resources(self.decoders, SlotPool(4), ScriptedInference(MODELS), SlotPool(4))
        accesses = SourceAccesses(self.secrets, ANYWHERE, FeedHandover(self.push, self.folder / "live.sock"))
        segments = Segments(
            self.streams,
            self.store,
            EventCodec(DOMAIN_EVENTS),
            self.storage,
            resources,
            time.time,
            owner="t",
            attempts_allowed=3,
        )
        manager = ProcessManager(
            self.store,
            self.streams,
            Ingestion(
                self.streams,
                self.fetcher,
                self.decoders,
                self.storage,
                accesses,
                self.push,
                time.time,
                segment_seconds=60,
                live_silence=self.live_silence,
                publish_wait=self.publish_wait,
            ),
            SegmentPipeline(segments),
            Following(segments, accesses, self.push, segment_seconds=60, live_silence=self.live_silence),
            Purge(self.streams, self.store, self.storage, self.secrets, time.time),
            self.push,
            await load_open_videos(self.store, self.snapshots),
            self.snapshots,
            time.time,
            concurrent_segments=2,
            placement=self.placement,
            leadership=self.leadership,
            live_sources=self.live_sources,
        )
        task = asyncio.create_task(manager.run())
        await manager.wait_until_started(60)
        try:
            yield manager
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def upload(self) -> Submitted:
        path = self.storage.uploads / "upload-1"
        path.write_bytes(b"video")
        return await self.handlers.submit_upload(path=path, file_name="clip.mp4", models=MODELS)

    async def run_of(self, submitted: Submitted) -> Run:
        return (await self.streams.load(submitted.video_id)).runs[submitted.run_id]

    async def until(self, submitted: Submitted, status: str) -> Run:
        async with asyncio.timeout(60):
            while (run := await self.run_of(submitted)).status != status:
                await asyncio.sleep(0.005)
        return run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("monolith.application.scheduler._FIRST_PAUSE", 0.001)
    return World(tmp_path)


async def until_gone(path: Path) -> None:
    async with asyncio.timeout(60):
        while path.exists():
            await asyncio.sleep(0.005)


async def test_a_submission_is_analysed_and_its_upload_removed(world: World) -> None:
    async with world.running():
        run = await world.until(await world.upload(), "completed")
        assert (run.frames, sorted(run.completed)) == (40, [0, 1])
        await until_gone(world.storage.uploads / "upload-1")


async def test_what_was_submitted_while_nothing_ran_is_analysed_at_the_start(world: World) -> None:
    submitted = await world.upload()
    async with world.running():
        await world.until(submitted, "completed")


async def test_an_interrupted_life_goes_on_in_the_next(world: World) -> None:
    submitted = await world.upload()
    async with world.running():
        async with asyncio.timeout(60):
            while not world.decoders.decoded:
                await asyncio.sleep(0)
    assert (await world.run_of(submitted)).status == "active"
    async with world.running():
        await world.until(submitted, "completed")
    assert world.decoders.probes == 1


async def test_finished_videos_are_not_looked_at_again(world: World) -> None:
    async with world.running() as manager:
        await world.until(await world.upload(), "completed")
        async with asyncio.timeout(60):
            while manager.open_videos():
                await asyncio.sleep(0.005)
    snapshot = await world.snapshots.load()
    assert snapshot.counts == {}
    assert snapshot.position == await world.store.head()


async def test_a_snapshot_of_another_store_is_not_believed(world: World) -> None:
    await SnapshotFile(world.folder, "store-2").save(Snapshot(0, {"gone": 1}))
    submitted = await world.upload()
    async with world.running():
        await world.until(submitted, "completed")
        await until_gone(world.storage.uploads / "upload-1")


async def test_a_snapshot_ahead_of_its_store_is_not_believed(world: World) -> None:
    await world.snapshots.save(Snapshot(10**9, {"gone": 1}))
    submitted = await world.upload()
    async with world.running():
        await world.until(submitted, "completed")


async def test_sources_left_by_a_crash_are_swept_and_needed_ones_are_not(world: World) -> None:
    orphan = world.storage.uploads / "orphan"
    orphan.write_bytes(b"x")
    submitted = await world.upload()
    async with world.running():
        assert not orphan.exists()
        await world.until(submitted, "completed")


async def test_a_video_that_cannot_be_read_is_set_aside_and_the_others_go_on(world: World) -> None:
    bad = NewEvent(event_id=new_event_id(), event_type="RunRequested", data=b"{}")
    await world.store.append("video-bad", [bad], expected_version=NO_STREAM)
    submitted = await world.upload()
    async with world.running() as manager:
        await world.until(submitted, "completed")
        assert manager.unreadable == {"bad"}


async def test_nothing_is_swept_once_the_program_has_started(world: World) -> None:
    async with world.running():
        late = world.storage.uploads / "arriving"
        late.write_bytes(b"x")
        await asyncio.sleep(0.05)
        assert late.exists()


async def test_a_url_is_fetched_with_its_password(world: World) -> None:
    url = "http://me:secret@example.org/clip.mp4"
    async with world.running():
        submitted = await world.handlers.submit_url(url=url, models=MODELS)
        await world.until(submitted, "completed")
        async with asyncio.timeout(60):  # it goes once the end of the run is seen
            while any((world.folder / "secrets").iterdir()):
                await asyncio.sleep(0.01)
    assert world.fetcher.fetched == [url]
    assert all(b"secret" not in event.data for event in await world.store.read_all())


async def test_a_bad_source_fails_the_run(world: World) -> None:
    world.decoders.probe_errors = [SourceFailure("not a video")]
    async with world.running():
        await world.until(await world.upload(), "failed")
        await until_gone(world.storage.uploads / "upload-1")


async def test_a_probe_that_fails_for_once_is_tried_again(world: World) -> None:
    world.decoders.probe_errors = [RetryableFailure("the decoder died")] * 2
    async with world.running():
        await world.until(await world.upload(), "completed")


async def test_a_probe_that_always_fails_is_given_up(world: World) -> None:
    world.decoders.probe_errors = [RetryableFailure("the decoder died")] * 50
    async with world.running():
        await world.until(await world.upload(), "failed")


async def test_cancelling_ends_the_work(world: World) -> None:
    world.decoders.probe_errors = [RetryableFailure("again")] * 3
    async with world.running() as manager:
        submitted = await world.upload()
        await world.handlers.cancel(submitted.video_id)
        await world.until(submitted, "cancelled")
        async with asyncio.timeout(60):
            while manager.scheduler.running():
                await asyncio.sleep(0.005)
        with pytest.raises(NotPossibleError):
            await world.handlers.cancel(submitted.video_id)


async def test_deleting_removes_files_and_streams(world: World) -> None:
    async with world.running():
        submitted = await world.upload()
        await world.until(submitted, "completed")
        await world.handlers.delete(submitted.video_id)
        async with asyncio.timeout(60):
            while not (await world.streams.load(submitted.video_id)).purged:
                await asyncio.sleep(0.005)
    assert not (world.folder / "videos" / submitted.video_id).exists()
    assert await world.store.read_all(prefixes=["frames-", "results-"]) == []
    with pytest.raises(VideoNotFoundError):
        await world.handlers.delete(submitted.video_id)


async def test_a_key_used_twice_gives_the_first_answer(world: World) -> None:
    first = await world.handlers.submit_url(url="http://e.org/a.mp4", models=MODELS, idempotency_key="k")
    again = await world.handlers.submit_url(url="http://e.org/a.mp4", models=MODELS, idempotency_key="k")
    assert (again.video_id, again.run_id, again.repeated) == (first.video_id, first.run_id, True)
    with pytest.raises(NotPossibleError, match="another URL"):
        await world.handlers.submit_url(
            url="http://e.org/b.mp4", video_name="a.mp4", models=MODELS, idempotency_key="k"
        )
    with pytest.raises(NotPossibleError, match="different submission"):
        await world.handlers.submit_url(
            url="http://e.org/a.mp4", models=MODELS, frame_step=5, idempotency_key="k"
        )


async def test_a_missing_file_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequestError, match="there is no file"):
        await world.handlers.submit_file(path=world.folder / "nothing.mp4", models=MODELS)


async def test_a_purge_that_fails_is_tried_again_for_as_long_as_the_program_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.application.put_off.FIRST_PAUSE", 0.01)
    removed, failures = world.storage.remove_video, 12  # more than twice as many as a job has tries

    async def remove(video_id: str) -> int:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise PermissionError("somebody holds the folder")
        return await removed(video_id)

    monkeypatch.setattr(world.storage, "remove_video", remove)
    async with world.running():
        submitted = await world.upload()
        await world.until(submitted, "completed")
        await world.handlers.delete(submitted.video_id)
        async with asyncio.timeout(60):
            while not (await world.streams.load(submitted.video_id)).purged:
                await asyncio.sleep(0.005)
    assert failures == -2  # once before the streams go, once behind them
    assert not (world.folder / "videos" / submitted.video_id).exists()
