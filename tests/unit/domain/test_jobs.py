from __future__ import annotations

import msgspec

from monolith.domain.commands import CancelRuns, DeleteVideo, RecordPurge
from monolith.domain.jobs import FollowJob, ProbeJob, PurgeJob, SegmentJob, next_jobs
from monolith.domain.video import Video
from tests.builders import RUN, VIDEO, after, complete, followed, probe, source, submit


def test_nothing_is_done_for_an_unknown_video() -> None:
    assert next_jobs(Video()) == []


def test_a_new_video_is_probed() -> None:
    assert next_jobs(after(submit())) == [ProbeJob(VIDEO)]


def test_segments_of_an_indexed_source_are_done_side_by_side() -> None:
    video = after(submit(), probe(source()))
    assert next_jobs(video) == [SegmentJob(VIDEO, RUN, 0), SegmentJob(VIDEO, RUN, 1)]
    assert next_jobs(video, at_most=1) == [SegmentJob(VIDEO, RUN, 0)]


def test_segments_of_a_sequential_source_are_done_one_after_another() -> None:
    assert next_jobs(after(submit(), probe(source(frames=None)))) == [SegmentJob(VIDEO, RUN, 0)]
    assert next_jobs(after(submit(), probe(source(frames=None)), complete(0))) == [SegmentJob(VIDEO, RUN, 1)]


def test_a_finished_run_needs_nothing() -> None:
    assert next_jobs(after(submit(), probe(source()), complete(0), complete(1))) == []
    assert next_jobs(after(submit(), CancelRuns(at=2.0, reason="r"))) == []


def test_a_deleted_video_is_purged() -> None:
    assert next_jobs(after(submit(), DeleteVideo(at=2.0))) == [PurgeJob(VIDEO)]
    assert next_jobs(after(submit(), DeleteVideo(at=2.0), RecordPurge(at=3.0, bytes_freed=0))) == []


def test_a_camera_is_known_by_its_url_to_be_live() -> None:
    camera = msgspec.structs.replace(submit(), location="rtsp://camera/1")
    assert next_jobs(after(camera)) == [ProbeJob(VIDEO, live=True)]


def test_a_source_that_is_followed_is_one_job() -> None:
    camera = after(submit(), followed(live=True))
    assert next_jobs(camera) == [FollowJob(VIDEO, live=True)]
    stopped = after(submit(), followed(live=True), CancelRuns(at=3.0, reason="r"))
    assert next_jobs(stopped) == [FollowJob(VIDEO, live=True, finish=True)]
    assert next_jobs(after(submit(), followed(live=False))) == [FollowJob(VIDEO)]
