"""The two event streams of one segment in one run: what they say already, and what this attempt adds.

One attempt writes at a time. Its claim opens both streams: from then on every append of an earlier attempt meets a
wrong version, in whichever stream, and that attempt stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

from eventsourcing.codec import EventCodec
from eventsourcing.errors import WrongExpectedVersionError
from eventsourcing.store import EventStore, iterate_stream
from eventsourcing.versions import NO_STREAM
from monolith.domain.errors import SupersededError
from monolith.domain.events import (
    FrameEvent,
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    ResultEvent,
    SegmentClaimed,
    SegmentClosed,
    frames_stream,
    results_stream,
)
from monolith.domain.jobs import SegmentJob
from monolith.domain.segment import SourcePosition, StoredFrame

_CLAIM_TRIES: Final = 20
_CUT_OFF_SECONDS: Final = 10.0


class SegmentLog:
    """What is known of a segment. Open it with `open`, then `claim` before any other append."""

    def __init__(self, store: EventStore, codec: EventCodec, job: SegmentJob) -> None:
        self.job = job
        self.attempt = 0
        self.closed: SegmentClosed | None = None
        self.stored: dict[int, tuple[StoredFrame, str]] = {}
        """Frame number → the stored frame and the name of its pack."""
        self.analysed: dict[str, set[int]] = {}
        """Model key → frame numbers with results."""
        self.dropped: dict[str | None, set[int]] = {}
        """Model key, or None for every model → frame numbers that this run has given up."""
        self.position: SourcePosition | None = None
        """Of the newest stored frame, where the source has one."""
        self._store = store
        self._codec = codec
        self._results_stream = results_stream(job.run_id, job.segment)
        self._frames_stream = frames_stream(job.video_id, job.segment)
        self._results_version: int | None = None
        self._frames_version: int | None = None

    @classmethod
    async def open(cls, store: EventStore, codec: EventCodec, job: SegmentJob) -> SegmentLog:
        """Read what earlier attempts have left."""
        log = cls(store, codec, job)
        async for recorded in iterate_stream(store, log._results_stream):
            log._note(codec.decode(recorded))
            log._results_version = recorded.stream_position
        await log._read_frames()
        return log

    def is_settled(self, frame_number: int, models: Sequence[str]) -> bool:
        """Whether every model has judged the frame or given it up."""
        return all(not self.needs(frame_number, model) for model in models)

    def needs(self, frame_number: int, model: str) -> bool:
        """Whether `model` has still to judge the frame."""
        return not (
            frame_number in self.analysed.get(model, ())
            or frame_number in self.dropped.get(model, ())
            or frame_number in self.dropped.get(None, ())
        )

    def complete_frames(self, models: Sequence[str]) -> set[int]:
        """Frame numbers with results of every one of `models`."""
        return set.intersection(*(self.analysed.get(model, set()) for model in models))

    def given_up(self) -> set[int]:
        """Frame numbers that lack the result of a model or of all."""
        return set().union(*self.dropped.values())

    def not_wanted(self) -> tuple[int, ...]:
        """Frame numbers, in order, that need not be decoded any more: stored, or given up for every model."""
        return tuple(sorted({*self.stored, *self.dropped.get(None, ())}))

    def settled(self) -> int:
        """A measure of progress: pictures stored, and judged or given up by a model."""
        judged = [*self.analysed.values(), *self.dropped.values()]
        return len(self.stored) + sum(map(len, judged))

    @property
    def greatest_frame(self) -> int | None:
        """Of the frames that are stored or given up; None: there is none."""
        return max((*self.stored, *self.given_up()), default=None)

    @property
    def greatest_timestamp(self) -> float | None:
        """Of the stored frames, in seconds; None: there is none."""
        return max((frame.timestamp for frame, _ in self.stored.values()), default=None)

    async def claim(self, owner: str, at: float) -> None:
        """Open the next attempt. Raises SupersededError when another process claims at the same time."""
        claimed = SegmentClaimed(
            video_id=self.job.video_id,
            run_id=self.job.run_id,
            segment=self.job.segment,
            attempt=self.attempt + 1,
            owner=owner,
            claimed_at=at,
        )
        await self.append_results([claimed])
        await self._claim_frames(claimed)

    async def _claim_frames(self, claimed: SegmentClaimed) -> None:
        """An earlier attempt may store frames until the claim is there: what it stored is taken over."""
        for _ in range(_CLAIM_TRIES):
            try:
                return await self.append_frames([claimed])
            except SupersededError:
                await self._read_frames()
        raise SupersededError(f"another attempt keeps writing to {self._frames_stream}")

    async def _read_frames(self) -> None:
        start = 0 if self._frames_version is None else self._frames_version + 1
        async for recorded in iterate_stream(self._store, self._frames_stream, from_position=start):
            self._note(self._codec.decode(recorded))
            self._frames_version = recorded.stream_position

    async def give_up(self, frame_numbers: Iterable[int], reason: str, model: str | None = None) -> None:
        """Record frames that `model` (None: every model) will have no result for. Raises SupersededError."""
        numbers = tuple(sorted(frame_numbers))
        if not numbers:
            return
        dropped = FramesDropped(
            video_id=self.job.video_id,
            run_id=self.job.run_id,
            segment=self.job.segment,
            frame_numbers=numbers,
            reason=reason,
            model=model,
        )
        await self.append_frames([dropped])

    async def close(self, models: Sequence[str], *, last_frame: int | None, end_of_source: bool) -> None:
        """Append SegmentClosed: every frame is settled for `models`. Raises SupersededError."""
        complete = self.complete_frames(models)
        closed = SegmentClosed(
            video_id=self.job.video_id,
            run_id=self.job.run_id,
            segment=self.job.segment,
            attempt=self.attempt,
            frames=len(complete),
            dropped=len(self.given_up() - complete),
            last_frame=last_frame,
            end_of_source=end_of_source,
        )
        await self.append_results([closed])

    async def append_results(self, events: Sequence[ResultEvent]) -> None:
        """Raises SupersededError."""
        await _undivided(self._append_results(events))

    async def append_frames(self, events: Sequence[FrameEvent]) -> None:
        """Raises SupersededError."""
        await _undivided(self._append_frames(events))

    async def _append_results(self, events: Sequence[ResultEvent]) -> None:
        self._results_version = await self._append(self._results_stream, events, self._results_version)

    async def _append_frames(self, events: Sequence[FrameEvent]) -> None:
        self._frames_version = await self._append(self._frames_stream, events, self._frames_version)

    async def _append(
        self, stream: str, events: Sequence[ResultEvent | FrameEvent], version: int | None
    ) -> int:
        metadata = {"correlation_id": self.job.video_id}
        new = [self._codec.encode(event, metadata=metadata) for event in events]
        expected = NO_STREAM if version is None else version
        try:
            result = await self._store.append(stream, new, expected_version=expected)
        except WrongExpectedVersionError as error:
            raise SupersededError(f"another attempt writes to {stream}") from error
        for event in events:
            self._note(event)
        return result.stream_position

    def _note(self, event: object) -> None:
        match event:
            case SegmentClaimed() if event.run_id == self.job.run_id:
                self.attempt = max(self.attempt, event.attempt)
            case FramesAnalysed():
                self.analysed.setdefault(event.model.key, set()).update(f.frame_number for f in event.frames)
            case SegmentClosed():
                self.closed = event
            case FramesStored():
                self.stored.update((frame.frame_number, (frame, event.pack)) for frame in event.frames)
                self.position = event.position
            case FramesDropped() if event.run_id == self.job.run_id:
                self.dropped.setdefault(event.model, set()).update(event.frame_numbers)
            case _:
                pass


async def _undivided(append: Coroutine[Any, Any, None]) -> None:
    """Do `append`. The store may go on with what its caller was cancelled in: the cancellation is raised when the
    append has ended and is noted, or after `_CUT_OFF_SECONDS`, so that what comes next fits what is there."""
    task = asyncio.create_task(append)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=_CUT_OFF_SECONDS)
        finally:
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # looked at: the cancellation goes before it
        raise
