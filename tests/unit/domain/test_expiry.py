"""Given what happened to a video, when segments are to expire, then which do."""

from __future__ import annotations

import pytest

from monolith.domain.commands import CancelRuns, DeleteVideo, ExpireSegments, RecordPurge, RecordSegmentsPurge
from monolith.domain.decisions import decide
from monolith.domain.events import RunRequested, SegmentsExpired, SegmentsPurged, VideoEvent
from monolith.domain.jobs import PurgeSegmentsJob, SegmentJob, next_jobs
from monolith.domain.segment import ExpiredSegment
from monolith.domain.video import Video, evolve
from tests.builders import RUN, VIDEO, after, complete, probe, source, submit, types


def expired(segment: int) -> ExpiredSegment:
    return ExpiredSegment(
        segment=segment, first_frame=None, last_frame=None, frames_stored=0, decode_nanoseconds=0,
        resize_nanoseconds=0, encode_nanoseconds=0, last_event_at=1.0, runs=(),
    )  # fmt: skip


def expire(*segments: int) -> ExpireSegments:
    return ExpireSegments(at=9.0, segments=tuple(map(expired, segments)), older_than=5.0)


def purged(*segments: int) -> RecordSegmentsPurge:
    return RecordSegmentsPurge(at=10.0, segments=segments, bytes_freed=7)


def gone(events: object) -> list[int]:
    """The segments of the one SegmentsExpired; none: nothing was decided."""
    found = list(events)  # type: ignore[call-overload]
    if not found:
        return []
    (event,) = found
    assert isinstance(event, SegmentsExpired)
    assert (event.older_than, event.expired_at) == (5.0, 9.0)
    return [one.segment for one in event.segments]


ANALYSED = (submit(), probe(source(100, 2)), complete(0), complete(1))


def test_segments_of_a_completed_run_expire() -> None:
    assert gone(decide(after(*ANALYSED), expire(0, 1))) == [0, 1]


def test_an_unfinished_run_keeps_what_it_has_not_completed() -> None:
    video = after(submit(), probe(source(100, 2)), complete(0))
    assert gone(decide(video, expire(0, 1))) == [0]
    assert gone(decide(video, expire(1))) == []


def test_a_run_that_is_over_keeps_nothing() -> None:
    video = after(submit(), probe(source(100, 2)), complete(0), CancelRuns(at=4.0, reason="a wish"))
    assert gone(decide(video, expire(0, 1))) == [0, 1]


def test_every_unfinished_run_counts() -> None:
    again = RunRequested(
        video_id=VIDEO, run_id="0199aaaa-0000-7000-8000-000000000009", models=("objects_detection",), frame_step=1,
        max_height=720, jpeg_quality=90, infer_from="stored", requested_at=5.0,
    )  # fmt: skip
    assert gone(decide(evolve(after(*ANALYSED), again), expire(0, 1))) == []


@pytest.mark.parametrize("video", [Video(), after(*ANALYSED, DeleteVideo(at=4.0))])
def test_nothing_expires_of_a_video_that_is_not_there(video: Video) -> None:
    assert decide(video, expire(0)) == []


def test_segments_that_are_gone_or_unknown_stay_out() -> None:
    assert gone(decide(after(*ANALYSED, expire(0)), expire(0, 1, 2))) == [1]


def test_an_unfinished_run_goes_on_without_what_has_expired() -> None:
    video = after(submit(), probe(source(100, 2)), complete(0), expire(0))
    assert next_jobs(video) == [PurgeSegmentsJob(VIDEO), SegmentJob(VIDEO, RUN, 1)]
    assert types(decide(video, complete(1))) == ["SegmentCompleted", "RunCompleted"]


def test_a_purge_answers_its_expiry_once() -> None:
    video = after(*ANALYSED, expire(0), expire(1))
    events = decide(video, purged(0))
    assert events == [SegmentsPurged(video_id=VIDEO, segments=(0,), bytes_freed=7, purged_at=10.0)]
    assert next_jobs(after(*ANALYSED, expire(0), expire(1), purged(0))) == [PurgeSegmentsJob(VIDEO)]
    done = after(*ANALYSED, expire(0), expire(1), purged(0), purged(1))
    assert next_jobs(done) == []
    assert decide(done, purged(0)) == []


def test_the_purge_of_a_deleted_video_answers_open_expiries() -> None:
    """Each beginning has its end, so that the video does not stay open."""
    video = after(*ANALYSED, expire(0), DeleteVideo(at=9.5))
    events: list[VideoEvent] = list(decide(video, RecordPurge(at=10.0, bytes_freed=3)))
    assert types(events) == ["SegmentsPurged", "VideoPurged"]
