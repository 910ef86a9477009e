"""Which segments of a video are older than a moment, and what they add up to: by their events.

The newest event of a segment is the newest of: its plan, the end of a run that never completed it, its completion or
failure in a run, and everything in its frames stream and its results streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import Final, cast

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.store import EventStore, iterate_stream
from monolith.application.ports import Clock
from monolith.application.segment_history import SegmentHistory
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import ExpireSegments
from monolith.domain.events import (
    FrameEvent,
    ResultEvent,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SegmentCompleted,
    SegmentFailed,
    SegmentsExpired,
    SegmentsPlanned,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.segment import ExpiredSegment
from monolith.domain.video import Video

SEGMENTS_AN_EVENT: Final = 64
_SEGMENTS_AT_ONCE: Final = 2
_PAGE: Final = 50
"""Events decoded before other tasks get their turn: a few milliseconds at most."""


class Counted(msgspec.Struct, frozen=True):
    """Some segments that are old enough, with their sums; `unreadable`: those whose events cannot be read."""

    segments: tuple[ExpiredSegment, ...]
    looked_at: int
    unreadable: tuple[int, ...]


class Expiring:
    """Reads and decides; `expire` writes. Methods raise EventStoreErrors."""

    def __init__(self, store: EventStore, codec: EventCodec, streams: VideoStreams, clock: Clock) -> None:
        self._store = store
        self._codec = codec
        self._streams = streams
        self._clock = clock

    async def count(
        self, video: Video, candidates: Iterable[int], older_than: float
    ) -> AsyncIterator[Counted]:
        """Those of `candidates` that may expire and whose newest event is older than `older_than` (Unix seconds),
        as many at a time as go into one event."""
        wanted = sorted(candidates)
        possible = [segment for segment in wanted if video.may_expire(segment)]
        yield Counted((), len(wanted) - len(possible), ())
        times = await self._times(video)
        left = iter(possible)
        while batch := list(islice(left, SEGMENTS_AN_EVENT)):
            old = [segment for segment in batch if times.newest(segment) < older_than]
            sums = await self._sum_all(video, old, times)
            yield Counted(
                segments=tuple(one for one in sums.values() if one and one.last_event_at < older_than),
                looked_at=len(batch),
                unreadable=tuple(segment for segment, one in sums.items() if one is None),
            )

    async def expire(
        self, video_id: str, segments: tuple[ExpiredSegment, ...], older_than: float
    ) -> SegmentsExpired | None:
        """What was decided: others may have come first."""
        command = ExpireSegments(at=self._clock(), segments=segments, older_than=older_than)
        outcome = await self._streams.execute(video_id, command)
        for event in outcome.events:
            assert isinstance(event, SegmentsExpired)
            return event
        return None

    async def _sum_all(
        self, video: Video, segments: Sequence[int], times: _Times
    ) -> dict[int, ExpiredSegment | None]:
        turns = asyncio.Semaphore(_SEGMENTS_AT_ONCE)

        async def sum_one(segment: int) -> ExpiredSegment | None:
            async with turns:
                return await self._sum(video, segment, times.newest(segment))

        return dict(zip(segments, await asyncio.gather(*map(sum_one, segments)), strict=True))

    async def _sum(self, video: Video, segment: int, newest: float) -> ExpiredSegment | None:
        history = SegmentHistory(segment, video.runs, newest)
        names = [
            frames_stream(video.video_id, segment),
            *(results_stream(run_id, segment) for run_id in video.runs),
        ]
        try:
            for name in names:
                async for recorded in iterate_stream(self._store, name, page=_PAGE):
                    event = cast(FrameEvent | ResultEvent, self._codec.decode(recorded))
                    history.note(event, recorded.recorded_at)
        except StoreUnavailableError:
            raise
        except (EventStoreError, KeyError):
            return None
        return history.expired

    async def _times(self, video: Video) -> _Times:
        times = _Times(video)
        async for recorded in iterate_stream(self._store, video_stream(video.video_id), page=_PAGE * 5):
            if recorded.event_type in _TIMED:
                times.note(self._codec.decode(recorded), recorded.recorded_at)
        return times


_TIMED: Final = frozenset(
    kind.__name__
    for kind in (SegmentsPlanned, SegmentCompleted, SegmentFailed, RunCompleted, RunFailed, RunCancelled)
)


class _Times:
    """When the video's own stream last said something of each segment."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._segments: dict[int, float] = {}
        self._ends: dict[str, float] = {}

    def note(self, event: object, recorded_at: float) -> None:
        match event:
            case SegmentsPlanned():
                self._segments.update((plan.segment, recorded_at) for plan in event.segments)
            case SegmentCompleted() | SegmentFailed():
                self._segments[event.segment] = max(recorded_at, self._segments.get(event.segment, 0.0))
            case RunCompleted() | RunFailed() | RunCancelled():
                self._ends[event.run_id] = recorded_at

    def newest(self, segment: int) -> float:
        """Unix seconds."""
        ends = (
            self._ends.get(run_id, 0.0)
            for run_id, run in self._video.runs.items()
            if segment not in run.completed
        )
        return max(self._segments.get(segment, 0.0), *ends, 0.0)
