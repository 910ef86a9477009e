"""What is to be done next for a video. It follows from its events alone, so a restart finds the same jobs."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.events import Transport
from monolith.domain.run import Run
from monolith.domain.video import Video


class LookJob(msgspec.Struct, frozen=True):
    """Ask a web server how the pictures behind a URL come: what has to be done to probe them depends on it."""

    video_id: str


class ProbeJob(msgspec.Struct, frozen=True):
    """Fetch the source if need be, probe it, plan its segments. `live`: its pictures are to be taken while they come,
    for all that is known: it may give none for long. `transport`: how they come, where that was asked; `pushed`: its
    publisher is waited for first."""

    video_id: str
    live: bool = False
    transport: Transport | None = None
    pushed: bool = False


class SegmentJob(msgspec.Struct, frozen=True):
    """Analyse one segment in one run."""

    video_id: str
    run_id: str
    segment: int


class FollowJob(msgspec.Struct, frozen=True):
    """Analyse a source while its pictures come, segment after segment. `finish`: only what is there already, then
    the source counts as ended. `live`: the source may go on for ever. `pushed`: by a publisher."""

    video_id: str
    finish: bool = False
    live: bool = False
    pushed: bool = False


class PurgeSegmentsJob(msgspec.Struct, frozen=True):
    """Remove the files and streams of segments that expired."""

    video_id: str


class PurgeJob(msgspec.Struct, frozen=True):
    """Remove everything about a deleted video."""

    video_id: str


Job: TypeAlias = LookJob | ProbeJob | SegmentJob | FollowJob | PurgeSegmentsJob | PurgeJob


def next_jobs(video: Video, *, at_most: int = 16) -> list[Job]:
    """The jobs that can be done now, most urgent first, at most `at_most` of them.

    Segments of an indexed source are independent; of a sequential one, only the first open segment can be done. A
    source that is followed is one job.
    """
    if video.submitted is None or video.purged:
        return []
    if video.deleted:
        return [PurgeJob(video.video_id)]
    purges: list[Job] = [PurgeSegmentsJob(video.video_id)] if video.expiries else []
    return [*purges, *_analyses(video, at_most)]


def _analyses(video: Video, at_most: int) -> list[Job]:
    active = video.active_runs()
    if not active:
        return []
    if video.probe is None:
        return [ProbeJob(video.video_id, live=video.live_by_url, pushed=video.pushed)]
    if video.followed:
        return [FollowJob(video.video_id, finish=video.stopping, live=video.live, pushed=video.pushed)]
    return [job for run in active for job in _segment_jobs(video, run)][:at_most]


def _segment_jobs(video: Video, run: Run) -> list[Job]:
    segments = video.open_segments(run)
    ready = segments if video.indexed else segments[:1]
    return [SegmentJob(video.video_id, run.request.run_id, plan.segment) for plan in ready]
