from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.application.errors import EnvironmentFailure, RetryableFailure, SourceFailure
from monolith.application.following import Following
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.judging import MAX_HELD_LIVE, MAX_LENT
from monolith.application.push_sources import PushSources
from monolith.application.source_access import SourceAccesses
from monolith.domain.commands import CancelRuns
from monolith.domain.errors import SupersededError
from monolith.domain.events import (
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    RunCompleted,
    RunFailed,
    SegmentClosed,
    SegmentFailed,
    SegmentsPlanned,
    SourceEnded,
    StreamConnected,
    StreamDisconnected,
)
from monolith.domain.jobs import FollowJob, next_jobs
from monolith.live.feeds import LiveFeeds
from monolith.live.handover import FeedHandover
from monolith.secret_urls import SecretUrls
from tests.builders import RUN, VIDEO, followed, submit
from tests.unit.application.scripted import ANYWHERE, Crash, OpenGate
from tests.unit.application.scripted_sources import RATE, WALL, Connection, ScriptedSources
from tests.unit.application.segment_world import MODELS, SegmentWorld, frames_of, once

PATIENCE = 60.0
"""Silence that a source is allowed where a test is not about silence, in seconds."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.application.segments._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("monolith.application.following._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("monolith.application.following._LONGEST_PAUSE", 0.01)


class World(SegmentWorld):
    """One video that is followed."""

    def __init__(
        self, folder: Path, *, live: bool, frames: int = 0, frame_step: int = 1, silence: float = PATIENCE
    ) -> None:
        self.decoders = ScriptedSources(frames)
        super().__init__(folder, self.decoders, frame_step=frame_step, slots=6)
        self.secrets = SecretUrls(folder)
        self.live = live
        self.silence = silence

    async def submit(self) -> None:
        await self.streams.execute(VIDEO, submit(self.frame_step, MODELS))
        await self.streams.execute(VIDEO, followed(live=self.live))

    async def work(self) -> None:
        """One process's life: until nothing is left to do, or the store crashes."""
        segments = self.segments()
        options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
        handlers = VideoHandlers(self.streams, self.store, OpenGate(), self.secrets, options, lambda: 5.0)
        push = PushSources(handlers, self.streams, self.secrets, LiveFeeds())
        following = Following(
            segments,
            SourceAccesses(self.secrets, ANYWHERE, FeedHandover(push, Path("live.sock"))),
            push,
            segment_seconds=60,
            live_silence=self.silence,
        )
        async with asyncio.timeout(60):
            while jobs := next_jobs(await self.streams.load(VIDEO)):
                (job,) = jobs
                assert isinstance(job, FollowJob)
                await following.run(job)

    async def status(self) -> str:
        return (await self.streams.load(VIDEO)).runs[RUN].status


def connections(*made: Connection) -> deque[Connection]:
    return deque(made)


def broken(pictures: int, reason: str = "connection reset") -> Connection:
    return Connection(pictures=pictures, broken=reason)


def own_numbers(events: Sequence[object]) -> list[float | None]:
    """The pictures that were stored, as a live source numbers them."""
    positions = [event.position for event in events if isinstance(event, FramesStored)]
    return [position.timestamp for position in positions if position is not None]


def closed_ranges(events: Sequence[object]) -> list[tuple[int, int | None]]:
    """First and last frame of each segment, as planned and as closed."""
    firsts = [plan.first_frame for e in events if isinstance(e, SegmentsPlanned) for plan in e.segments]
    lasts = {e.segment: e.last_frame for e in events if isinstance(e, SegmentClosed)}
    return [(first, lasts[number]) for number, first in enumerate(firsts)]


# A source with an end.


async def test_a_source_with_an_end_is_analysed_segment_after_segment(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=35, frame_step=2)
    await world.submit()
    await world.work()
    events = await world.events()
    assert frames_of(events) == once(range(2, 36, 2))
    assert closed_ranges(events) == [(1, 10), (11, 20), (21, 30), (31, 35)]
    assert len(world.decoders.requests) == 1
    (ended,) = await world.of(SourceEnded)
    assert isinstance(ended, SourceEnded)
    assert (ended.frames, ended.reason) == (35, None)
    assert await world.status() == "completed"
    assert await world.of(StreamConnected) == []
    assert world.slots.all_back
    assert world.decoders.most_lent <= MAX_LENT


async def test_segments_begin_where_the_one_before_ended(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=25)
    await world.submit()
    await world.work()
    plans = [p for e in await world.events() if isinstance(e, SegmentsPlanned) for p in e.segments]
    assert [plan.start for plan in plans] == [0.0, pytest.approx(10 / RATE), pytest.approx(20 / RATE)]


async def test_a_source_that_breaks_off_goes_on_in_its_segment(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=30)
    world.decoders.connections = connections(
        broken(14), Connection(pictures=13, error=RetryableFailure("reset"))
    )
    await world.submit()
    await world.work()
    events = await world.events()
    assert frames_of(events) == once(range(1, 31))
    assert [request.first_frame for request in world.decoders.requests] == [1, 11, 21]
    assert [e.segment for e in events if isinstance(e, SegmentFailed)] == [1, 2]
    assert await world.status() == "completed"
    assert world.slots.all_back


async def test_a_source_that_gets_nowhere_fails_and_keeps_what_there_is(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=30)
    refused = Connection(error=RetryableFailure("refused"))
    world.decoders.connections = connections(broken(14), refused, refused, refused, refused)
    await world.submit()
    await world.work()
    (failed,) = await world.of(RunFailed)
    assert isinstance(failed, RunFailed)
    assert failed.error == "refused"
    assert frames_of(await world.events()) == once(range(1, 15))


async def test_a_source_that_is_gone_fails_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=30)
    world.decoders.connections = connections(Connection(error=SourceFailure("404 Not Found")))
    await world.submit()
    await world.work()
    assert await world.status() == "failed"
    assert len(world.decoders.requests) == 1


# A live source.


async def test_a_live_source_that_ends_by_itself_completes(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(pictures=25))
    await world.submit()
    await world.work()
    events = await world.events()
    assert frames_of(events) == once(range(1, 26))
    assert closed_ranges(events) == [(1, 10), (11, 20), (21, 25)]
    assert [type(e) for e in events if isinstance(e, StreamDisconnected | SourceEnded | RunCompleted)] == [
        StreamDisconnected, SourceEnded, RunCompleted,
    ]  # fmt: skip
    assert world.slots.all_back


async def test_every_frame_of_a_live_source_is_an_event_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(pictures=12))
    await world.submit()
    await world.work()
    batches = await world.of(FramesStored, FramesAnalysed)
    assert len(batches) == 12 * (1 + len(MODELS))
    assert all(len(b.frames) == 1 for b in batches if isinstance(b, FramesStored | FramesAnalysed))


async def test_a_live_source_holds_few_slots(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(pictures=40))
    await world.submit()
    await world.work()
    assert world.decoders.most_lent <= MAX_HELD_LIVE < 6


async def test_a_new_connection_is_a_new_segment_and_numbers_go_on(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(broken(14), broken(3), Connection(pictures=5))
    await world.submit()
    await world.work()
    events = await world.events()
    assert frames_of(events) == once(range(1, 23))
    assert closed_ranges(events) == [(1, 10), (11, 14), (15, 17), (18, 22)]
    connected = [e for e in events if isinstance(e, StreamConnected)]
    assert [(e.connection, e.segment, e.first_frame) for e in connected] == [
        (1, 0, 1),
        (2, 2, 15),
        (3, 3, 18),
    ]
    assert [e.wall_time - WALL for e in connected] == [1, 15, 18]
    ends = [(e.connection, e.last_frame) for e in events if isinstance(e, StreamDisconnected)]
    assert ends == [(1, 14), (2, 17), (3, 22)]
    timelines = {request.timeline_start for request in world.decoders.requests[1:]}
    assert timelines == {WALL + 1}
    leasts = [request.timeline_least for request in world.decoders.requests]
    assert leasts == [0.0, pytest.approx(14 / RATE), pytest.approx(17 / RATE)]


async def test_a_new_connection_goes_on_behind_the_last_picture_that_was_stored(tmp_path: Path) -> None:
    world = World(tmp_path, live=True, frame_step=2)
    world.decoders.connections = connections(broken(14), broken(1), Connection(pictures=5))
    await world.submit()
    await world.work()
    behind = [request.behind and request.behind.timestamp for request in world.decoders.requests]
    assert behind == [None, 14, 14]
    assert own_numbers(await world.events()) == [2, 4, 6, 8, 10, 12, 14, 15, 17, 19]


async def test_a_connection_whose_decoder_dies_is_closed_with_what_is_stored(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(
        Connection(pictures=5, error=RetryableFailure("the decoder died"), synced_to_the_end=False),
        Connection(pictures=2),
    )
    await world.submit()
    await world.work()
    events = await world.events()
    seen = frames_of(events)
    (lost,) = (e for e in events if isinstance(e, FramesDropped))
    kept = set(range(1, 8)) - set(lost.frame_numbers)
    assert {number for what, number in seen if what == "stored"} == kept
    assert set(seen.values()) == {1}
    assert lost.reason == "lost with the connection: the decoder died"
    assert closed_ranges(events) == [(1, 5), (6, 7)]
    assert await world.status() == "completed"
    assert world.slots.all_back


async def test_frames_that_came_too_late_are_dropped_and_counted(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(
        Connection(pictures=8, late=frozenset({3, 8}), broken="reset"), Connection(pictures=2)
    )
    await world.submit()
    await world.work()
    dropped = [e for e in await world.events() if isinstance(e, FramesDropped)]
    assert {(e.reason, e.model) for e in dropped} == {("too late for a slot", None)}
    assert [number for e in dropped for number in e.frame_numbers] == [3, 8]
    (completed,) = await world.of(RunCompleted)
    assert isinstance(completed, RunCompleted)
    assert (completed.frames, completed.dropped, completed.greatest_frame) == (8, 2, 10)


async def test_a_live_source_that_stays_away_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, live=True)
    a_third = 0.3 * PATIENCE
    monkeypatch.setattr("monolith.application.following._now", lambda: a_third * len(world.decoders.requests))
    world.decoders.connections = connections(broken(4))
    await world.submit()
    await world.work()
    (ended,) = await world.of(SourceEnded)
    assert isinstance(ended, SourceEnded)
    assert (ended.frames, ended.reason) == (4, "no picture came for 60 s: connection refused")
    assert len(world.decoders.requests) == 5
    assert await world.status() == "completed"
    assert closed_ranges(await world.events()) == [(1, 4), (5, None)]


async def test_a_live_source_is_not_silent_between_sampled_pictures(tmp_path: Path) -> None:
    world = World(tmp_path, live=True, frame_step=18, silence=3.0)
    world.decoders.connections = connections(Connection(pictures=20, pause=0.2))
    await world.submit()
    await world.work()
    (ended,) = await world.of(SourceEnded)
    assert isinstance(ended, SourceEnded)
    assert (ended.frames, ended.reason) == (20, None)
    assert frames_of(await world.events()) == once(range(18, 19))


async def test_a_live_source_that_says_nothing_more_ends(tmp_path: Path) -> None:
    world = World(tmp_path, live=True, silence=2.5)
    world.decoders.connections = connections(Connection(pictures=4, hangs=True))
    await world.submit()
    await world.work()
    (ended,) = await world.of(SourceEnded)
    assert isinstance(ended, SourceEnded)
    assert ended.reason is not None and ended.reason.startswith("no picture came for 2.5 s")
    assert await world.status() == "completed"
    assert world.slots.all_back


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_live_source_that_never_came_up_fails_and_says_why(tmp_path: Path, hangs: bool) -> None:
    world = World(tmp_path, live=True, silence=0.2)
    if hangs:
        world.decoders.connections = connections(Connection(hangs=True))
    await world.submit()
    await world.work()
    (failed,) = await world.of(RunFailed)
    assert isinstance(failed, RunFailed)
    assert failed.error.startswith("the source gave no picture within 0.2 s: ")
    assert len(await world.of(SegmentsPlanned)) == 1


async def test_a_live_source_that_cannot_be_had_for_good_fails_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(error=SourceFailure("401 Unauthorized")))
    await world.submit()
    await world.work()
    (failed,) = await world.of(RunFailed)
    assert isinstance(failed, RunFailed)
    assert failed.error == "401 Unauthorized"
    assert len(world.decoders.requests) == 1


async def test_a_live_source_that_was_there_is_waited_for_whatever_it_answers(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    gone = Connection(error=SourceFailure("404 Not Found"))
    world.decoders.connections = connections(broken(2), gone, gone, Connection(pictures=2))
    await world.submit()
    await world.work()
    assert frames_of(await world.events()) == once(range(1, 5))
    assert closed_ranges(await world.events()) == [(1, 2), (3, 4)]


async def test_a_full_disk_is_not_the_fault_of_a_live_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(
        Connection(pictures=2, error=RetryableFailure("No space left on device")), Connection(pictures=2)
    )
    await world.submit()
    with monkeypatch.context() as full:
        life = asyncio.create_task(world.work())
        while not world.decoders.decoded:
            await asyncio.sleep(0)
        full.setattr(world.storage, "require_room", _no_room)
        with pytest.raises(EnvironmentFailure, match="the disk is full"):
            await life
    await world.work()
    assert await world.status() == "completed"
    assert frames_of(await world.events()) == once(range(1, 5))
    first, _ = (e for e in await world.events() if isinstance(e, StreamDisconnected))
    assert (first.reason, first.last_frame) == ("the disk is full", 2)


async def test_a_machine_that_cannot_go_on_is_said_to_be_why_a_connection_ended(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    no_worker = EnvironmentFailure("no frame can be judged now: no worker starts")
    world.inference.unavailable = deque([no_worker])
    world.decoders.connections = connections(Connection(pictures=3, hangs=True), Connection(pictures=2))
    await world.submit()
    with pytest.raises(EnvironmentFailure, match="no worker starts"):
        await world.work()
    assert world.slots.all_back
    await world.work()
    assert await world.status() == "completed"
    first, _ = (e for e in await world.events() if isinstance(e, StreamDisconnected))
    assert first.reason == "no frame can be judged now: no worker starts"
    await check_live(world)


def _no_room() -> None:
    raise EnvironmentFailure("the disk is full")


# A user, or the program, ends it.


@pytest.mark.parametrize("pictures", [3, 13])
async def test_a_live_source_is_ended_in_order(tmp_path: Path, pictures: int) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(pictures=pictures, hangs=True))
    await world.submit()
    life = await until_judged(world, pictures)
    await world.streams.execute(VIDEO, CancelRuns(at=3.0, reason="cancelled by the user"))
    await ended_by(life)
    assert world.decoders.following == 0
    await world.work()
    (ended,) = await world.of(SourceEnded)
    assert isinstance(ended, SourceEnded)
    assert (ended.frames, ended.reason) == (pictures, "ended by the user")
    assert await world.status() == "completed"
    assert frames_of(await world.events()) == once(range(1, pictures + 1))
    assert [e.reason for e in await world.of(StreamDisconnected) if isinstance(e, StreamDisconnected)] == [
        "ended by the user"
    ]


async def test_a_live_source_that_is_ended_before_a_picture_came_has_failed(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    await world.submit()
    await world.streams.execute(VIDEO, CancelRuns(at=3.0, reason="cancelled by the user"))
    await world.work()
    (failed,) = await world.of(RunFailed)
    assert isinstance(failed, RunFailed)
    assert failed.error == "ended by the user before a picture was analysed"


async def test_a_program_that_ends_leaves_the_segment_to_the_next_one(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    world.decoders.connections = connections(Connection(pictures=7, hangs=True), Connection(pictures=2))
    await world.submit()
    life = await until_judged(world, 7)
    await ended_by(life)
    assert world.slots.all_back
    assert await world.of(SegmentClosed) == []
    await world.work()
    events = await world.events()
    assert frames_of(events) == once(range(1, 10))
    assert closed_ranges(events) == [(1, 7), (8, 9)]
    first, _ = (e for e in events if isinstance(e, StreamDisconnected))
    assert (first.reason, first.last_frame) == ("the program was interrupted", 7)


async def test_an_interrupted_connection_says_what_it_gave_in_earlier_segments(tmp_path: Path) -> None:
    world = World(tmp_path, live=True, frame_step=10)
    world.decoders.connections = connections(Connection(pictures=14, hangs=True), Connection(pictures=2))
    await world.submit()
    life = asyncio.create_task(world.work())
    async with asyncio.timeout(60):
        while len(await world.of(SegmentsPlanned)) < 2:
            await asyncio.sleep(0.001)
    await ended_by(life)
    await world.work()
    first, _ = (e for e in await world.events() if isinstance(e, StreamDisconnected))
    assert (first.reason, first.last_frame) == ("the program was interrupted", 10)


async def test_a_segment_without_a_picture_is_used_again(tmp_path: Path) -> None:
    world = World(tmp_path, live=True)
    await world.submit()
    life = asyncio.create_task(world.work())
    async with asyncio.timeout(60):
        while len(world.decoders.requests) < 3:
            await asyncio.sleep(0.001)
    await ended_by(life)
    world.decoders.connections = connections(Connection(pictures=2))
    await world.work()
    assert closed_ranges(await world.events()) == [(1, 2)]


async def test_a_run_that_was_cancelled_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=20)
    await world.submit()
    await world.streams.execute(VIDEO, CancelRuns(at=3.0, reason="cancelled by the user"))
    await world.work()
    assert world.decoders.requests == []


async def test_of_two_followers_one_is_overtaken_and_nothing_is_doubled(tmp_path: Path) -> None:
    world = World(tmp_path, live=False, frames=40)
    await world.submit()
    first = asyncio.create_task(until_not_superseded(world))
    while not world.decoders.decoded:
        await asyncio.sleep(0)
    overtaken = await until_not_superseded(world) + await first
    assert overtaken
    assert world.decoders.following == 0
    assert frames_of(await world.events()) == once(range(1, 41))
    assert await world.status() == "completed"


async def until_not_superseded(world: World) -> int:
    """Work, and try again as the scheduler does; how often another one had taken over."""
    times = 0
    while True:
        try:
            await world.work()
        except SupersededError:
            times += 1
            await asyncio.sleep(0.001 * times)
        else:
            return times


async def until_judged(world: World, frames: int) -> asyncio.Task[None]:
    """A life of the process in which so many frames have been judged."""
    life = asyncio.create_task(world.work())
    async with asyncio.timeout(60):
        while sum(frames_of(await world.events()).values()) < frames * (1 + len(MODELS)):
            await asyncio.sleep(0.001)
    return life


async def ended_by(life: asyncio.Task[None]) -> None:
    life.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await life


# Crashes.

CRASHES = st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=5)


@settings(max_examples=40, deadline=None)
@given(crashes=CRASHES, frames=st.integers(1, 45), frame_step=st.integers(1, 4))
def test_a_crash_at_any_append_changes_nothing_of_a_source_with_an_end(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[int, bool]], frames: int, frame_step: int
) -> None:
    async def run() -> None:
        step = min(frame_step, frames)
        world = World(tmp_path_factory.mktemp("world"), live=False, frames=frames, frame_step=step)
        await world.submit()
        await crash(world, crashes)
        await world.work()
        events = await world.events()
        assert frames_of(events) == once(range(step, frames + 1, step))
        bounds = [(n, min(n + 9, frames)) for n in range(1, frames + 1, 10)]
        assert closed_ranges(events)[: len(bounds)] == bounds
        assert await world.status() == "completed"
        assert len(await world.of(RunCompleted)) == len(await world.of(SourceEnded)) == 1
        assert world.slots.all_back

    asyncio.run(run())


@settings(max_examples=40, deadline=None)
@given(crashes=CRASHES, pictures=st.lists(st.integers(1, 25), min_size=1, max_size=5))
def test_a_crash_at_any_append_doubles_nothing_of_a_live_source(
    tmp_path_factory: pytest.TempPathFactory, crashes: list[tuple[int, bool]], pictures: list[int]
) -> None:
    async def run() -> None:
        world = World(tmp_path_factory.mktemp("world"), live=True)
        world.decoders.connections = deque(broken(count) for count in pictures)
        world.decoders.last = Connection(pictures=3)
        await world.submit()
        await crash(world, crashes)
        await world.work()
        assert await world.status() == "completed"
        await check_live(world)

    asyncio.run(run())


async def check_live(world: World) -> None:
    """Every frame that was stored is judged once; numbers are used once; segments follow one another; no picture of the
    source is there twice or missing."""
    events = await world.events()
    seen = frames_of(events)
    stored = {number for what, number in seen if what == "stored"}
    assert seen == Counter((what, number) for what in ("stored", *MODELS) for number in stored)
    assert own_numbers(events) == list(range(1, len(stored) + 1))  # none twice, none left out
    ranges = closed_ranges(events)
    ends = [0]
    for first, last in ranges:
        assert first > ends[-1]
        ends.append(max(last or 0, ends[-1]))
    ups = [(e.connection, e.segment, e.first_frame) for e in events if isinstance(e, StreamConnected)]
    assert [connection for connection, _, _ in ups] == list(range(1, len(ups) + 1))
    assert len({segment for _, segment, _ in ups}) == len(ups)
    assert [first for _, _, first in ups] == sorted(first for _, _, first in ups)
    assert len(await world.of(StreamDisconnected)) == len(ups)
    assert world.slots.all_back


async def crash(world: World, crashes: list[tuple[int, bool]]) -> None:
    """Live so often as there are crashes, each life until its append."""
    for appends, after in crashes:
        if await world.status() != "active":
            return
        world.store.appends_left, world.store.after = appends, after
        with contextlib.suppress(Crash, BaseExceptionGroup):
            await world.work()
        world.store.appends_left = 10**9
    world.store.appends_left = 10**9
