"""Ports with a stopwatch: every call goes through, what is stored is counted once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import WrongExpectedVersionError
from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY, NO_STREAM
from monolith.domain.events import DOMAIN_EVENTS, FramesDropped
from monolith.domain.segment import StoredFrame
from monolith.ingest.messages import Connected, FrameReady, SegmentDone
from monolith.observed import (
    ObservedDecoders,
    ObservedFetcher,
    ObservedInference,
    ObservedProjection,
    ObservedStore,
)
from monolith.work_metrics import STAGES, WorkMetrics
from tests.unit.readmodels.story import OBJECTS, RUN, VIDEO, analysed, recorded, whole_video

READY = FrameReady(
    slot=0,
    frame=StoredFrame(frame_number=1, timestamp=0.0, offset=0, length=1, width=1, height=1),
    decode_seconds=0.25,
    resize_seconds=0.5,
    encode_seconds=0.75,
)
DONE = SegmentDone(unused_slots=(), missing=(), frames_seen=1, last_frame=1, end_of_source=True)


class Scraped:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = WorkMetrics(self.registry)

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"video_analysis_{name}", labels)
        assert found is not None, name
        return found

    def stage(self, stage: str) -> float:
        """How often it was timed."""
        return self.value("stage_seconds_count", stage=stage)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def dropped(reason: str, model: str | None = None) -> NewEvent:
    event = FramesDropped(
        video_id=VIDEO, run_id=RUN, segment=0, frame_numbers=(1, 2), reason=reason, model=model
    )
    return EventCodec(DOMAIN_EVENTS).encode(event)


def test_every_stage_is_there_from_the_start(scraped: Scraped) -> None:
    assert {scraped.stage(stage) for stage in STAGES} == {0.0}


async def test_what_is_stored_is_counted_and_what_is_refused_is_not(scraped: Scraped) -> None:
    codec, inner = EventCodec(DOMAIN_EVENTS), MemoryEventStore()
    store = ObservedStore(inner, scraped.metrics)
    for stream, event in whole_video():
        await store.append(stream, [codec.encode(event)], expected_version=ANY)
    stored = scraped.value("frames_analysed_total", model=OBJECTS)
    again = codec.encode(analysed([1, 2])[1])
    with pytest.raises(WrongExpectedVersionError):
        await store.append(whole_video()[0][0], [again], expected_version=NO_STREAM)
    assert stored > 0 and scraped.value("frames_analysed_total", model=OBJECTS) == stored
    assert scraped.stage("append") == len(whole_video()) == await store.head()
    assert scraped.value("runs_ended_total", end="completed") >= 1
    assert scraped.value("events_appended_total", type="VideoSubmitted") == 1
    await store.close()


@pytest.mark.parametrize(
    ("reason", "model", "label"),
    [
        ("the picture could not be decoded; damaged", None, "undecodable"),
        ("the stored picture could not be read", None, "unreadable"),
        ("the frame ended its worker 3 times", OBJECTS, "model"),
        ("no slot in time", None, "lost"),
    ],
)
def test_dropped_frames_have_few_reasons(
    scraped: Scraped, reason: str, model: str | None, label: str
) -> None:
    scraped.metrics.stored([dropped(reason, model)])
    assert scraped.value("frames_dropped_total", reason=label) == 2


class _Session:
    def __init__(self, *messages: object) -> None:
        self.messages = messages
        self.outstanding_slots = frozenset({7})
        self.lent: list[int] = []

    async def lend(self, slots: Any) -> None:
        self.lent += slots

    async def __aiter__(self) -> AsyncIterator[Any]:
        for message in self.messages:
            yield message


class _Decoders:
    def __init__(self, session: _Session) -> None:
        self.session = session

    @asynccontextmanager
    async def open(self, request: object) -> AsyncIterator[_Session]:
        yield self.session

    follow = open

    async def probe(self, *_: object) -> str:
        return "probed"


async def test_decoders_tell_their_times(scraped: Scraped) -> None:
    session = _Session(READY, READY, DONE)
    decoders: Any = ObservedDecoders(_Decoders(session), scraped.metrics)  # type: ignore[arg-type]
    async with decoders.open(None) as observed:
        assert observed.outstanding_slots == {7}
        await observed.lend([3])
        assert [message async for message in observed] == [READY, READY, DONE]
    assert session.lent == [3]
    assert scraped.value("stage_seconds_sum", stage="decode") == 0.5
    assert scraped.value("stage_seconds_sum", stage="encode") == 1.5
    assert await decoders.probe(Path(), Path(), 60.0) == "probed"
    assert scraped.stage("probe") == 1


async def test_sources_that_are_followed_are_connected_when_pictures_come(scraped: Scraped) -> None:
    session = _Session(Connected(first_frame=1, timestamp=0.0, wall_time=1.0), READY, DONE)
    decoders: Any = ObservedDecoders(_Decoders(session), scraped.metrics)  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    async with decoders.follow(None) as observed:
        assert (decoders.followed, decoders.connected) == (1, 0)
        seen += [(decoders.followed, decoders.connected) async for _ in observed]
    assert seen == [(1, 1)] * 3
    assert (decoders.followed, decoders.connected) == (0, 0)


class _Fetcher:
    async def fetch(self, url: str, target: Path) -> int:
        if url == "bad":
            raise OSError(url)
        return 1000


async def test_fetches_that_fail_have_no_time(scraped: Scraped) -> None:
    fetcher = ObservedFetcher(_Fetcher(), scraped.metrics)  # type: ignore[arg-type]
    assert await fetcher.fetch("good", Path()) == 1000
    with pytest.raises(OSError, match="bad"):
        await fetcher.fetch("bad", Path())
    assert (scraped.stage("fetch"), scraped.value("fetched_bytes_total")) == (1, 1000)


class _Inference:
    async def infer(self, model: str, frame: object, *, key: str) -> Any:
        class Result:
            started_at = 0.0
            seconds = 0.5

        return Result()


async def test_inference_is_timed_by_model(scraped: Scraped) -> None:
    inference: Any = ObservedInference(_Inference(), scraped.metrics)  # type: ignore[arg-type]
    await inference.infer(OBJECTS, None, key="v")
    assert scraped.value("inference_seconds_sum", model=OBJECTS) == 0.5
    assert (
        scraped.value("inference_wait_seconds_sum", model=OBJECTS) == 0.0
    )  # a clock that was set is no wait


class _Projection:
    name = "one"
    prefixes = ("video-",)

    async def apply(self, events: object) -> None:
        """Done at once."""

    async def checkpoint(self) -> int | None:
        return 5

    async def park(self, event: object, error: object) -> None:
        """Parked at once."""


async def test_a_projection_is_timed_and_passes_everything_on(scraped: Scraped) -> None:
    projection = ObservedProjection(_Projection(), scraped.metrics)
    await projection.apply(recorded([analysed([1])], 1))
    assert (projection.name, projection.prefixes, await projection.checkpoint()) == ("one", ("video-",), 5)
    assert list(await projection.parked_streams()) == []
    assert scraped.stage("project") == 1
    assert scraped.value("projection_delay_seconds_count", projection="one") == 1
