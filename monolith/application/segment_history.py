"""What a segment's events add up to: the sums that outlive it."""

from __future__ import annotations

from typing import assert_never

from monolith.domain.events import (
    FrameEvent,
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    ResultEvent,
    SegmentClaimed,
    SegmentClosed,
)
from monolith.domain.models import ModelIdentity
from monolith.domain.run import Run
from monolith.domain.segment import ExpiredModel, ExpiredRun, ExpiredSegment, nanoseconds


class SegmentHistory:
    """Note every event of the segment's streams, in the order of each stream; then ask for `expired`.

    What comes twice counts once. It holds frame numbers only, of one segment.
    """

    def __init__(self, segment: int, runs: dict[str, Run], last_event_at: float) -> None:
        """`runs`: all of the video; `last_event_at`: Unix seconds of what the video's own stream says of it."""
        self._segment = segment
        self._last_event_at = last_event_at
        self._stored: set[int] = set()
        self._decode = self._resize = self._encode = 0
        self._runs = {run_id: _RunHistory(run, segment) for run_id, run in runs.items()}
        self._first: int | None = None
        self._last: int | None = None

    def note(self, event: FrameEvent | ResultEvent, recorded_at: float) -> None:
        self._last_event_at = max(self._last_event_at, recorded_at)
        match event:
            case FramesStored():
                self._note_stored(event)
            case FramesDropped():
                self._seen(event.frame_numbers)
                self._run(event).dropped.update(event.frame_numbers)
            case SegmentClaimed():
                self._run(event).attempt = max(self._run(event).attempt, event.attempt)
            case FramesAnalysed():
                self._seen(self._run(event).note_results(event))
            case SegmentClosed():
                self._run(event).closed = True
            case _:
                assert_never(event)

    def _run(self, event: FramesDropped | SegmentClaimed | FramesAnalysed | SegmentClosed) -> _RunHistory:
        return self._runs[event.run_id]

    def _note_stored(self, event: FramesStored) -> None:
        numbers = [frame.frame_number for frame in event.frames]
        self._seen(numbers)
        self._stored.update(numbers)
        self._decode += nanoseconds(event.decode_seconds)
        self._resize += nanoseconds(event.resize_seconds)
        self._encode += nanoseconds(event.encode_seconds)

    def _seen(self, numbers: list[int] | tuple[int, ...]) -> None:
        if numbers:
            self._first = min(numbers) if self._first is None else min(self._first, *numbers)
            self._last = max(numbers) if self._last is None else max(self._last, *numbers)

    @property
    def expired(self) -> ExpiredSegment:
        return ExpiredSegment(
            segment=self._segment,
            first_frame=self._first,
            last_frame=self._last,
            frames_stored=len(self._stored),
            decode_nanoseconds=self._decode,
            resize_nanoseconds=self._resize,
            encode_nanoseconds=self._encode,
            last_event_at=self._last_event_at,
            runs=tuple(run.expired for run in self._runs.values() if run.happened),
        )


class _RunHistory:
    """What one run did in the segment."""

    def __init__(self, run: Run, segment: int) -> None:
        self._run = run
        self._completed = segment in run.completed
        self._failed = segment in run.failures
        self._judged: dict[str, set[int]] = {}
        self._nanoseconds: dict[str, int] = {}
        self._identities: dict[str, ModelIdentity] = {}
        self.attempt = 0
        self.closed = False
        self.dropped: set[int] = set()

    def note_results(self, event: FramesAnalysed) -> list[int]:
        """The frame numbers."""
        key, numbers = event.model.key, [frame.frame_number for frame in event.frames]
        self._judged.setdefault(key, set()).update(numbers)
        time = sum(nanoseconds(frame.seconds) for frame in event.frames)
        self._nanoseconds[key] = self._nanoseconds.get(key, 0) + time
        self._identities[key] = event.model
        return numbers

    @property
    def happened(self) -> bool:
        return bool(self.attempt or self._judged or self.dropped or self._done or self._failed)

    @property
    def _done(self) -> bool:
        return self.closed or self._completed

    @property
    def expired(self) -> ExpiredRun:
        whole = set.intersection(*(self._judged.get(model, set()) for model in self._run.request.models))
        return ExpiredRun(
            run_id=self._run.request.run_id,
            attempt=self.attempt,
            closed=self._done,
            failed=self._failed and not self._done,
            frames=len(whole),
            dropped=len(self.dropped),
            greatest_frame=max(whole, default=0),
            models=tuple(
                ExpiredModel(model=model, frames=len(self._judged[key]), nanoseconds=self._nanoseconds[key])
                for key, model in self._identities.items()
            ),
        )
