from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.commands import (
    CancelRuns,
    DeleteVideo,
    EndSource,
    FailSegment,
    FailVideo,
    PlanSegment,
    RecordConnection,
    RecordDisconnection,
    RecordPurge,
)
from monolith.domain.decisions import decide
from monolith.domain.errors import NotPossibleError, VideoNotFoundError
from monolith.domain.events import RunCompleted, RunFailed, SourceEnded
from monolith.domain.segment import SegmentPlan
from monolith.domain.video import Video, evolve
from tests.builders import RUN, after, complete, followed, last_of, probe, source, submit, types


def fail(segment: int = 0, *, permanent: bool = False, attempts: int = 3, settled: int = 0) -> FailSegment:
    return FailSegment(
        at=3.0,
        run_id=RUN,
        segment=segment,
        attempt=1,
        reason="decoder died",
        permanent=permanent,
        attempts_allowed=attempts,
        settled=settled,
    )


def test_a_submission_starts_the_first_run() -> None:
    assert types(decide(Video(), submit())) == ["VideoSubmitted", "RunRequested"]


def test_a_repeated_submission_starts_nothing() -> None:
    assert decide(after(submit()), submit()) == []


def test_a_probe_plans_the_segments_once() -> None:
    video = after(submit())
    assert types(decide(video, probe(source()))) == ["VideoProbed", "SegmentsPlanned"]
    assert decide(after(submit(), probe(source())), probe(source())) == []


def test_a_frame_step_beyond_the_length_fails_the_run_and_says_what_is_right() -> None:
    failed = last_of(decide(after(submit(frame_step=101)), probe(source(frames=100))))
    assert isinstance(failed, RunFailed)
    assert failed.error == (
        "frameStep 101 is beyond the video's 100 frames, so none was analysed; use a frameStep of at most 100"
    )


def test_a_run_completes_with_its_last_segment() -> None:
    video = after(submit(), probe(source()), complete(1))
    events = decide(video, complete(0, frames=48, dropped=2))
    assert types(events) == ["SegmentCompleted", "RunCompleted"]
    completed = last_of(events)
    assert isinstance(completed, RunCompleted)
    assert (completed.frames, completed.dropped, completed.greatest_frame) == (98, 2, 100)
    assert completed.coverage == pytest.approx(0.98)


def test_a_segment_completes_once() -> None:
    video = after(submit(), probe(source()), complete(0))
    assert decide(video, complete(0)) == []


def test_a_truncated_video_fails_after_all_its_segments_and_keeps_them() -> None:
    video = after(submit(), probe(source(truncated="100 of 250 frames are there")), complete(0))
    failed = last_of(decide(video, complete(1)))
    assert isinstance(failed, RunFailed)
    assert failed.error == (
        "the video is truncated: 100 of 250 frames are there; 100 analysed frames are kept"
    )


def test_a_run_without_any_result_fails() -> None:
    video = after(submit(), probe(source()), complete(0, frames=0, dropped=50))
    failed = last_of(decide(video, complete(1, frames=0, dropped=50)))
    assert isinstance(failed, RunFailed)
    assert "none of the 100 sampled frames could be analysed" in failed.error


def test_a_sequential_source_needs_its_end_to_complete() -> None:
    video = after(submit(), probe(source(frames=None)))
    events = decide(video, complete(0))
    assert types(events) == ["SegmentCompleted"]
    events = decide(
        after(submit(), probe(source(frames=None)), complete(0)), complete(1, end=True, last_frame=93)
    )
    assert types(events) == ["SegmentCompleted", "SourceEnded", "RunCompleted"]
    assert isinstance(events[1], SourceEnded)
    assert events[1].frames == 93


def test_a_sequential_source_that_ends_early_needs_no_later_segments() -> None:
    video = after(submit(), probe(source(frames=None)))
    events = decide(video, complete(0, frames=30, last_frame=30, end=True))
    assert types(events) == ["SegmentCompleted", "SourceEnded", "RunCompleted"]


def test_a_sequential_source_may_end_with_an_empty_segment() -> None:
    video = after(submit(), probe(source(frames=None)), complete(0))
    empty = msgspec.structs.replace(complete(1, frames=0, end=True), last_frame=None)
    events = decide(video, empty)
    assert isinstance(events[1], SourceEnded)
    assert events[1].frames == 50


def test_a_segment_may_fail_twice_but_not_three_times() -> None:
    video = after(submit(), probe(source()), fail())
    assert types(decide(video, fail())) == ["SegmentFailed"]
    video = after(submit(), probe(source()), fail(), fail())
    events = decide(video, fail())
    assert types(events) == ["SegmentFailed", "RunFailed"]
    assert isinstance(events[1], RunFailed)
    assert events[1].error == "decoder died"


def test_failures_after_progress_are_counted_anew() -> None:
    video = after(submit(), probe(source()), *(fail(settled=10 * n) for n in range(20)))
    assert types(decide(video, fail(settled=200))) == ["SegmentFailed"]
    video = after(submit(), probe(source()), fail(settled=5), fail(settled=9), fail(settled=9))
    assert types(decide(video, fail(settled=9))) == ["SegmentFailed", "RunFailed"]


def test_a_permanent_failure_ends_the_run_at_once() -> None:
    assert types(decide(after(submit(), probe(source())), fail(permanent=True))) == [
        "SegmentFailed",
        "RunFailed",
    ]


def test_a_bad_source_fails_every_active_run() -> None:
    events = decide(after(submit()), FailVideo(at=2.0, reason="not a video"))
    assert types(events) == ["RunFailed"]
    assert decide(after(submit(), FailVideo(at=2.0, reason="x")), FailVideo(at=3.0, reason="x")) == []


def test_cancelling_ends_active_runs_and_only_those() -> None:
    assert types(decide(after(submit()), CancelRuns(at=2.0, reason="r"))) == ["RunCancelled"]
    with pytest.raises(NotPossibleError, match="has ended already"):
        decide(after(submit(), CancelRuns(at=2.0, reason="r")), CancelRuns(at=3.0, reason="r"))
    with pytest.raises(VideoNotFoundError):
        decide(Video(), CancelRuns(at=1.0, reason="r"))


def test_nothing_is_recorded_for_a_cancelled_run() -> None:
    video = after(submit(), probe(source()), CancelRuns(at=2.0, reason="r"))
    assert decide(video, complete(0)) == []
    assert decide(video, fail()) == []


def test_deleting_cancels_and_is_purged_once() -> None:
    assert types(decide(after(submit()), DeleteVideo(at=2.0))) == ["RunCancelled", "VideoDeleted"]
    deleted = after(submit(), DeleteVideo(at=2.0))
    with pytest.raises(VideoNotFoundError):
        decide(deleted, DeleteVideo(at=3.0))
    assert types(decide(deleted, RecordPurge(at=3.0, bytes_freed=7))) == ["VideoPurged"]
    assert decide(after(submit(), DeleteVideo(at=2.0), RecordPurge(at=3.0, bytes_freed=7)), RecordPurge(
        at=4.0, bytes_freed=0)) == []  # fmt: skip


def test_purging_a_video_that_is_not_deleted_does_nothing() -> None:
    assert decide(after(submit()), RecordPurge(at=3.0, bytes_freed=0)) == []


@given(order=st.permutations(range(6)), repeats=st.lists(st.integers(0, 5), max_size=6))
def test_segments_may_complete_in_any_order_and_any_number_of_times(
    order: list[int], repeats: list[int]
) -> None:
    """However often and in whatever order segments are reported, the run completes exactly once, with the same sums."""
    video = after(submit(), probe(source(frames=300, segments=6)))
    completed = []
    for segment in [*order[:3], *repeats, *order]:
        for event in decide(video, complete(segment)):
            video = evolve(video, event)
            completed += [event] if isinstance(event, RunCompleted) else []
    assert [(one.frames, one.dropped, one.greatest_frame) for one in completed] == [(300, 0, 300)]


def plan(segment: int, first_frame: int) -> PlanSegment:
    return PlanSegment(at=3.0, plan=SegmentPlan(segment=segment, first_frame=first_frame, last_frame=None))


def connect(connection: int = 1, first_frame: int = 1) -> RecordConnection:
    return RecordConnection(
        at=3.0, connection=connection, segment=0, first_frame=first_frame, timestamp=0.0, wall_time=3.0
    )


CAMERA = (submit(), followed(live=True))


def test_segments_of_a_followed_source_are_planned_in_turn() -> None:
    video = after(*CAMERA, plan(0, 1))
    assert decide(video, plan(0, 1)) == []
    assert decide(video, plan(2, 1)) == []
    assert types(decide(video, plan(1, 26))) == ["SegmentsPlanned"]
    assert not video.planned


def test_a_connection_is_recorded_once_and_broken_once() -> None:
    video = after(*CAMERA, plan(0, 1), connect())
    assert (video.connected, video.connections) == (True, 1)
    assert decide(video, connect()) == []
    broken = RecordDisconnection(at=4.0, connection=1, last_frame=7, reason="reset")
    assert types(decide(video, broken)) == ["StreamDisconnected"]
    assert decide(after(*CAMERA, plan(0, 1), connect(), broken), broken) == []


def test_a_live_source_is_ended_in_order_first_and_cancelled_then() -> None:
    stop = CancelRuns(at=5.0, reason="cancelled by the user")
    video = after(*CAMERA, plan(0, 1), connect())
    assert types(decide(video, stop)) == ["StopRequested"]
    assert types(decide(after(*CAMERA, plan(0, 1), connect(), stop), stop)) == ["RunCancelled"]
    assert not after(*CAMERA, plan(0, 1), connect(), stop, stop).connected


def test_a_live_source_that_has_ended_completes_its_run() -> None:
    end = EndSource(at=6.0, frames=50, reason="no picture came for 300 s")
    video = after(*CAMERA, plan(0, 1), connect(), complete(0))
    assert types(decide(video, end)) == ["SourceEnded", "RunCompleted"]
    assert decide(after(*CAMERA, plan(0, 1), connect(), complete(0), end), end) == []
    assert not after(*CAMERA, plan(0, 1), connect(), complete(0), end).connected


def test_a_live_source_that_gave_nothing_fails_and_says_why() -> None:
    empty = msgspec.structs.replace(complete(0, frames=0), last_frame=None)
    video = after(*CAMERA, plan(0, 1), empty)
    failed = last_of(decide(video, EndSource(at=6.0, frames=0, reason="the camera does not answer")))
    assert isinstance(failed, RunFailed)
    assert failed.error == "the camera does not answer"


def test_lost_frames_of_a_live_source_are_not_called_damaged() -> None:
    video = after(*CAMERA, plan(0, 1), connect(), complete(0, frames=0, dropped=5))
    failed = last_of(decide(video, EndSource(at=6.0, frames=5)))
    assert isinstance(failed, RunFailed)
    assert failed.error == "none of the 5 sampled frames could be analysed"


def test_failures_of_a_segment_are_forgotten_when_it_is_complete() -> None:
    video = after(submit(), probe(source()), fail(0), complete(0))
    assert video.runs[RUN].failures == {}
