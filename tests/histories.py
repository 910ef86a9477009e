"""Histories of videos that could have happened, for property tests: several runs, interruptions, failures, live
sources, two runs that share frames, frames that are dropped, videos that are deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from hypothesis import strategies as st

from monolith.domain.detection import ColorShare
from monolith.domain.events import (
    AnalysedFrame,
    DomainEvent,
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    SegmentClaimed,
    SegmentClosed,
    SegmentCompleted,
    SegmentFailed,
    SegmentsPlanned,
    SourceEnded,
    VideoDeleted,
    VideoProbed,
    VideoSubmitted,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.models import MODEL_KEYS
from monolith.domain.segment import SegmentPlan, StoredFrame
from tests.builders import identity, source

Fate: TypeAlias = Literal["completed", "failed", "cancelled", "active"]
Step: TypeAlias = tuple[str, DomainEvent]
JPEG_BYTES: Final = 7
_SUM_OF_FRACTIONS: Final = 0.1
"""Seconds that have no exact float: sums of them depend on their order."""


@dataclass(frozen=True)
class SegmentStory:
    """What a run does in a segment. `interruptions`: attempts that stop half-way; `dropped`: frames given up (an index
    each); `reached`: how far the last attempt comes."""

    interruptions: int
    reached: Literal["nothing", "claimed", "half", "closed", "completed"]
    dropped: frozenset[int]
    failed: bool


@dataclass(frozen=True)
class RunStory:
    models: tuple[str, ...]
    fate: Fate
    segments: tuple[SegmentStory, ...]


@dataclass(frozen=True)
class VideoStory:
    number: int
    live: bool
    frames: int
    """In each segment."""
    step: int
    runs: tuple[RunStory, ...]
    deleted: bool = False

    @property
    def video_id(self) -> str:
        return f"0199aaaa-0000-7000-8000-{self.number:012d}"

    @property
    def segments(self) -> int:
        return len(self.runs[0].segments)

    def run_id(self, run: int) -> str:
        return f"0199bbbb-0000-7000-8000-{self.number:06d}{run:06d}"


@dataclass
class _Teller:
    """Tells a video's story as events."""

    story: VideoStory
    stored: dict[int, set[int]] = field(default_factory=dict)
    planned: set[int] = field(default_factory=set)

    def tell(self) -> Iterator[Step]:
        yield from self._beginning()
        for number, run in enumerate(self.story.runs):
            if number:
                yield self._about(self._requested(number))
            for segment, work in enumerate(run.segments):
                yield from self._plan(segment)
                yield from self._work(number, segment, work)
            yield from self._end(number)
        if self.story.deleted:
            yield self._about(VideoDeleted(video_id=self.story.video_id, deleted_at=9.0))

    def _about(self, event: DomainEvent) -> Step:
        return video_stream(self.story.video_id), event

    def _beginning(self) -> Iterator[Step]:
        story = self.story
        info = source(None if story.live else story.frames * story.segments, story.segments, live=story.live)
        yield self._about(
            VideoSubmitted(
                video_id=story.video_id, video_name=f"video {story.number}", video_url="file:///x.mp4",
                source_kind="url", location="x", submitted_at=1.0,
            )
        )  # fmt: skip
        yield self._about(self._requested(0))
        yield self._about(
            VideoProbed(
                video_id=story.video_id, path="" if story.live else "/x.mp4", spooled=False, size_bytes=1,
                source=info, ingest_seconds=_SUM_OF_FRACTIONS, transport="rtsp" if story.live else "file",
            )
        )  # fmt: skip
        if not story.live:
            plans = tuple(self._plan_of(segment) for segment in range(story.segments))
            self.planned.update(range(story.segments))
            yield self._about(
                SegmentsPlanned(video_id=story.video_id, segments=plans, pts_digest="d", final=True)
            )

    def _requested(self, run: int) -> RunRequested:
        return RunRequested(
            video_id=self.story.video_id, run_id=self.story.run_id(run), models=self.story.runs[run].models,
            frame_step=self.story.step, max_height=720, jpeg_quality=90, infer_from="stored", requested_at=1.5,
        )  # fmt: skip

    def _plan_of(self, segment: int) -> SegmentPlan:
        first = segment * self.story.frames + 1
        last = None if self.story.live else first + self.story.frames - 1
        return SegmentPlan(segment=segment, first_frame=first, last_frame=last)

    def _plan(self, segment: int) -> Iterator[Step]:
        if segment not in self.planned:
            self.planned.add(segment)
            plans = (self._plan_of(segment),)
            yield self._about(
                SegmentsPlanned(video_id=self.story.video_id, segments=plans, pts_digest=None, final=False)
            )

    def _numbers(self, segment: int) -> list[int]:
        first = segment * self.story.frames + 1
        return [n for n in range(first, first + self.story.frames) if n % self.story.step == 0]

    def _work(self, run: int, segment: int, work: SegmentStory) -> Iterator[Step]:
        numbers = self._numbers(segment)
        if work.reached == "nothing":
            return
        attempt, models, done = 0, self.story.runs[run].models, 0
        for _ in range(work.interruptions):
            attempt += 1
            yield from self._claim(run, segment, attempt)
            half = numbers[done : (done + len(numbers) + 1) // 2]
            yield from self._judge(run, segment, attempt, half, models)
            done += len(half)
        attempt += 1
        yield from self._claim(run, segment, attempt)
        if work.failed:
            yield self._about(
                SegmentFailed(
                    video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment, attempt=attempt,
                    reason="it broke", permanent=False,
                )
            )  # fmt: skip
        if work.reached == "half":
            yield from self._judge(run, segment, attempt, numbers[done:], models[:1])
        if work.reached in ("closed", "completed"):
            yield from self._finish(run, segment, attempt, numbers[done:], len(numbers), work)

    def _claim(self, run: int, segment: int, attempt: int) -> Iterator[Step]:
        claimed = SegmentClaimed(
            video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment, attempt=attempt,
            owner="t", claimed_at=2.0,
        )  # fmt: skip
        yield results_stream(self.story.run_id(run), segment), claimed
        yield frames_stream(self.story.video_id, segment), claimed

    def _judge(
        self, run: int, segment: int, attempt: int, numbers: Sequence[int], models: Sequence[str]
    ) -> Iterator[Step]:
        yield from self._store(run, segment, attempt, numbers)
        for model in models:
            for some in (numbers[::2], numbers[1::2]):
                if some:
                    yield (
                        results_stream(self.story.run_id(run), segment),
                        self._found(run, segment, attempt, some, model),
                    )

    def _store(self, run: int, segment: int, attempt: int, numbers: Sequence[int]) -> Iterator[Step]:
        known = self.stored.setdefault(segment, set())
        new = [n for n in numbers if n not in known]
        known.update(new)
        if new:
            yield (
                frames_stream(self.story.video_id, segment),
                FramesStored(
                    video_id=self.story.video_id, segment=segment, attempt=attempt,
                    pack=f"{segment:06d}-{self.story.run_id(run)}-{attempt:03d}.mjpeg",
                    frames=tuple(
                        StoredFrame(
                            frame_number=n, timestamp=n / 25, offset=i * JPEG_BYTES, length=JPEG_BYTES,
                            width=64, height=48,
                        )
                        for i, n in enumerate(new)
                    ),
                    decode_seconds=_SUM_OF_FRACTIONS * len(new), resize_seconds=1 / 3, encode_seconds=1 / 7,
                ),
            )  # fmt: skip

    def _found(
        self, run: int, segment: int, attempt: int, numbers: Sequence[int], model: str
    ) -> FramesAnalysed:
        return FramesAnalysed(
            video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment, attempt=attempt,
            model=identity(model),
            frames=tuple(
                AnalysedFrame(
                    frame_number=n, timestamp=n / 25, detections=(ColorShare(color="#010203", share=1.0),),
                    started_at=3.0, seconds=_SUM_OF_FRACTIONS * n,
                )
                for n in numbers
            ),
        )  # fmt: skip

    def _finish(
        self, run: int, segment: int, attempt: int, left: Sequence[int], sampled: int, work: SegmentStory
    ) -> Iterator[Step]:
        lost = [n for i, n in enumerate(left) if i in work.dropped]
        yield from self._judge(
            run, segment, attempt, [n for n in left if n not in lost], self.story.runs[run].models
        )
        if lost:
            yield (
                frames_stream(self.story.video_id, segment),
                FramesDropped(
                    video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment,
                    frame_numbers=tuple(lost), reason="damaged",
                ),
            )  # fmt: skip
        numbers = self._numbers(segment)
        counts = {
            "frames": sampled - len(lost),
            "dropped": len(lost),
            "last_frame": max(numbers, default=None),
        }
        yield (
            results_stream(self.story.run_id(run), segment),
            SegmentClosed(
                video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment, attempt=attempt,
                end_of_source=False, **counts,  # type: ignore[arg-type]
            ),
        )  # fmt: skip
        if work.reached == "completed":
            yield self._about(
                SegmentCompleted(
                    video_id=self.story.video_id, run_id=self.story.run_id(run), segment=segment,
                    **counts,  # type: ignore[arg-type]
                )
            )  # fmt: skip

    def _end(self, run: int) -> Iterator[Step]:
        video_id, run_id = self.story.video_id, self.story.run_id(run)
        match self.story.runs[run].fate:
            case "completed":
                if self.story.live and not run:
                    yield self._about(
                        SourceEnded(video_id=video_id, frames=self.story.frames * self.story.segments)
                    )
                yield self._about(
                    RunCompleted(
                        video_id=video_id, run_id=run_id, frames=1, dropped=0, greatest_frame=1, coverage=1.0,
                        completed_at=4.0,
                    )
                )  # fmt: skip
            case "failed":
                yield self._about(
                    RunFailed(video_id=video_id, run_id=run_id, error="it broke", failed_at=4.0)
                )
            case "cancelled":
                yield self._about(
                    RunCancelled(video_id=video_id, run_id=run_id, reason="a user's wish", cancelled_at=4.0)
                )


def events_of(story: VideoStory) -> list[Step]:
    return list(_Teller(story).tell())


@st.composite
def segment_stories(draw: st.DrawFn, fate: Fate) -> SegmentStory:
    reached = "completed" if fate == "completed" else draw(
        st.sampled_from(("nothing", "claimed", "half", "closed", "completed"))
    )  # fmt: skip
    return SegmentStory(
        interruptions=draw(st.integers(0, 2)),
        reached=reached,  # type: ignore[arg-type]
        dropped=draw(st.frozensets(st.integers(0, 3), max_size=2)),
        failed=draw(st.booleans()),
    )


@st.composite
def video_stories(draw: st.DrawFn, number: int) -> VideoStory:
    segments = draw(st.integers(1, 4))
    runs = []
    for _ in range(draw(st.integers(1, 2))):
        fate: Fate = draw(st.sampled_from(("completed", "failed", "cancelled", "active")))
        stories = draw(st.lists(segment_stories(fate), min_size=segments, max_size=segments))
        models = draw(st.lists(st.sampled_from(MODEL_KEYS), min_size=1, max_size=2, unique=True))
        runs.append(RunStory(tuple(models), fate, tuple(stories)))
    return VideoStory(
        number=number,
        live=draw(st.booleans()),
        frames=draw(st.integers(1, 5)),
        step=draw(st.integers(1, 2)),
        runs=tuple(runs),
        deleted=draw(st.integers(0, 5)) == 5,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[float, Step]]:
    """Events of one or two videos in one order, each with the day on which it was recorded (rising)."""
    stories = [events_of(draw(video_stories(number))) for number in range(1, draw(st.integers(1, 2)) + 1)]
    chance = draw(st.randoms(use_true_random=False))
    merged: list[tuple[float, Step]] = []
    day = 0.0
    while any(stories):
        story = chance.choice([one for one in stories if one])
        day += chance.choice((0.0, 0.0, 0.25, 1.0))
        merged.append((day, story.pop(0)))
    return merged
