"""What may happen to a video next: `decide` answers commands with events, by the rules in `video`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from monolith.domain.commands import (
    CancelRuns,
    CompleteSegment,
    DeleteVideo,
    EndSource,
    ExpireSegments,
    FailSegment,
    FailVideo,
    PlanSegment,
    RecordConnection,
    RecordDisconnection,
    RecordProbe,
    RecordPurge,
    RecordSegmentsPurge,
    SubmitVideo,
    VideoCommand,
)
from monolith.domain.errors import NotPossibleError, VideoNotFoundError
from monolith.domain.events import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    SegmentCompleted,
    SegmentFailed,
    SegmentsExpired,
    SegmentsPlanned,
    SegmentsPurged,
    SourceEnded,
    StopRequested,
    StreamConnected,
    StreamDisconnected,
    VideoDeleted,
    VideoEvent,
    VideoProbed,
    VideoPurged,
    VideoSubmitted,
)
from monolith.domain.run import Run
from monolith.domain.video import Video, evolve, expired_numbers


class VideoDecider:
    """The decider of `video-{video_id}` streams."""

    def initial(self) -> Video:
        return Video()

    def evolve(self, state: Video, event: VideoEvent) -> Video:
        return evolve(state, event)

    def decide(self, state: Video, command: VideoCommand) -> Sequence[VideoEvent]:
        return decide(state, command)


def decide(video: Video, command: VideoCommand) -> Sequence[VideoEvent]:
    """The events that answer `command`; none where it asks for what has happened already.

    Raises VideoNotFoundError, NotPossibleError.
    """
    match command:
        case SubmitVideo():
            return _submit(video, command)
        case RecordProbe():
            return _record_probe(video, command)
        case PlanSegment():
            return _plan_segment(video, command)
        case RecordConnection():
            return _record_connection(video, command)
        case RecordDisconnection():
            return _record_disconnection(video, command)
        case EndSource():
            return _end_source(video, command)
        case ExpireSegments():
            return _expire_segments(video, command)
        case RecordSegmentsPurge():
            return _record_segments_purge(video, command)
        case CompleteSegment():
            return _complete_segment(video, command)
        case FailSegment():
            return _fail_segment(video, command)
        case FailVideo():
            return _fail_runs(video, command.reason, command.at)
        case CancelRuns():
            return _cancel(video, command)
        case DeleteVideo():
            return _delete(video, command)
        case RecordPurge():
            return _record_purge(video, command)
        case _:
            assert_never(command)


def _submit(video: Video, command: SubmitVideo) -> list[VideoEvent]:
    if video.submitted is not None:
        return []
    return [
        VideoSubmitted(
            video_id=command.video_id,
            video_name=command.video_name,
            video_url=command.video_url,
            source_kind=command.source_kind,
            location=command.location,
            submitted_at=command.at,
            source_digest=command.source_digest,
        ),
        RunRequested(
            video_id=command.video_id,
            run_id=command.run_id,
            models=command.models,
            frame_step=command.frame_step,
            max_height=command.max_height,
            jpeg_quality=command.jpeg_quality,
            infer_from=command.infer_from,
            requested_at=command.at,
        ),
    ]


def _record_probe(video: Video, command: RecordProbe) -> list[VideoEvent]:
    if video.probe is not None or not video.active_runs():
        return []
    probed = VideoProbed(
        video_id=video.video_id,
        path=command.path,
        spooled=command.spooled,
        size_bytes=command.size_bytes,
        source=command.source,
        ingest_seconds=command.ingest_seconds,
        modified_ns=command.modified_ns,
        transport=command.transport,
    )
    if command.transport != "file":
        return [probed]
    planned = SegmentsPlanned(
        video_id=video.video_id,
        segments=command.source.segments,
        pts_digest=command.source.pts_digest,
        final=True,
    )
    return [probed, planned, *_runs_beyond_the_end(video, command)]


def _runs_beyond_the_end(video: Video, command: RecordProbe) -> Iterator[RunFailed]:
    frames = command.source.frames
    if frames is None or not command.source.indexed:
        return
    for run in video.active_runs():
        if run.request.frame_step > frames:
            yield _failed(run, _nothing_sampled(run, frames), command.at)


def _nothing_sampled(run: Run, frames: int) -> str:
    return (
        f"frameStep {run.request.frame_step} is beyond the video's {frames} frames, so none was analysed; "
        f"use a frameStep of at most {frames}"
    )


def _plan_segment(video: Video, command: PlanSegment) -> list[VideoEvent]:
    expected = command.plan.segment == len(video.segments) and video.followed
    if not expected or not video.active_runs() or video.frames is not None:
        return []
    plans = (command.plan,)
    return [SegmentsPlanned(video_id=video.video_id, segments=plans, pts_digest=None, final=False)]


def _record_connection(video: Video, command: RecordConnection) -> list[VideoEvent]:
    if command.connection <= video.connections or not video.active_runs():
        return []
    connected = StreamConnected(
        video_id=video.video_id,
        connection=command.connection,
        segment=command.segment,
        first_frame=command.first_frame,
        timestamp=command.timestamp,
        wall_time=command.wall_time,
    )
    return [connected]


def _record_disconnection(video: Video, command: RecordDisconnection) -> list[VideoEvent]:
    if command.connection != video.connections or not video.connected or video.deleted:
        return []
    return [_disconnected(video, command.last_frame, command.reason, command.at)]


def _disconnected(video: Video, last_frame: int | None, reason: str, at: float) -> StreamDisconnected:
    return StreamDisconnected(
        video_id=video.video_id,
        connection=video.connections,
        last_frame=last_frame,
        reason=reason,
        disconnected_at=at,
    )


def _end_source(video: Video, command: EndSource) -> list[VideoEvent]:
    if not video.followed or video.frames is not None or not video.active_runs():
        return []
    ended = SourceEnded(video_id=video.video_id, frames=command.frames, reason=command.reason)
    after = evolve(video, ended)
    ends = [
        event for run in after.active_runs() for event in _end_of_run(after, run.request.run_id, command.at)
    ]
    return [ended, *ends]


def _expire_segments(video: Video, command: ExpireSegments) -> list[VideoEvent]:
    if not video.exists:
        return []
    gone = tuple(one for one in command.segments if video.may_expire(one.segment))
    if not gone:
        return []
    event = SegmentsExpired(
        video_id=video.video_id, segments=gone, older_than=command.older_than, expired_at=command.at
    )
    return [event]


def _record_segments_purge(video: Video, command: RecordSegmentsPurge) -> list[VideoEvent]:
    if command.segments not in map(expired_numbers, video.expiries):
        return []
    return [_segments_purged(video, command.segments, command.bytes_freed, command.at)]


def _segments_purged(video: Video, segments: tuple[int, ...], freed: int, at: float) -> SegmentsPurged:
    return SegmentsPurged(video_id=video.video_id, segments=segments, bytes_freed=freed, purged_at=at)


def _complete_segment(video: Video, command: CompleteSegment) -> list[VideoEvent]:
    run = video.runs.get(command.run_id)
    if run is None or not run.active or command.segment in run.completed:
        return []
    done = SegmentCompleted(
        video_id=video.video_id,
        run_id=command.run_id,
        segment=command.segment,
        frames=command.frames,
        dropped=command.dropped,
        last_frame=command.last_frame,
    )
    events: list[VideoEvent] = [done]
    after = evolve(video, done)
    if command.end_of_source and after.frames is None:
        ended = SourceEnded(video_id=video.video_id, frames=_frames_seen(after, command))
        events.append(ended)
        after = evolve(after, ended)
    return [*events, *_end_of_run(after, command.run_id, command.at)]


def _frames_seen(video: Video, command: CompleteSegment) -> int:
    """The last segment of a source may hold no picture: then the one before knows the number."""
    return command.last_frame or video.runs[command.run_id].greatest_frame


def _end_of_run(video: Video, run_id: str, at: float) -> Iterator[VideoEvent]:
    run = video.runs[run_id]
    if not video.planned or video.frames is None or video.open_segments(run):
        return
    assert video.probe is not None
    if video.probe.source.truncated is not None:
        kept = f"{run.frames} analysed frames are kept"
        yield _failed(run, f"the video is truncated: {video.probe.source.truncated}; {kept}", at)
    elif run.frames == 0:
        yield _failed(run, _why_no_frames(video, run), at)
    else:
        yield RunCompleted(
            video_id=video.video_id,
            run_id=run_id,
            frames=run.frames,
            dropped=run.dropped,
            greatest_frame=run.greatest_frame,
            coverage=run.coverage,
            completed_at=at,
        )


def _why_no_frames(video: Video, run: Run) -> str:
    if run.dropped:
        none = f"none of the {run.dropped} sampled frames could be analysed"
        return none if video.live else f"{none}: the video is damaged"
    if not video.frames:
        return video.ended_because or "the video holds no frame that can be decoded"
    return _nothing_sampled(run, video.frames)


def _fail_segment(video: Video, command: FailSegment) -> list[VideoEvent]:
    run = video.runs.get(command.run_id)
    if run is None or not run.active or command.segment in run.completed:
        return []
    failed = SegmentFailed(
        video_id=video.video_id,
        run_id=command.run_id,
        segment=command.segment,
        attempt=command.attempt,
        reason=command.reason,
        permanent=command.permanent,
        settled=command.settled,
    )
    failures = run.failures_with(command.segment, command.settled)
    if not command.permanent and failures.count < command.attempts_allowed:
        return [failed]
    return [failed, _failed(run, command.reason, command.at)]


def _fail_runs(video: Video, reason: str, at: float) -> list[VideoEvent]:
    return [_failed(run, reason, at) for run in video.active_runs()]


def _failed(run: Run, error: str, at: float) -> RunFailed:
    return RunFailed(video_id=run.request.video_id, run_id=run.request.run_id, error=error, failed_at=at)


def _cancelled(run: Run, reason: str, at: float) -> RunCancelled:
    return RunCancelled(
        video_id=run.request.video_id, run_id=run.request.run_id, reason=reason, cancelled_at=at
    )


def _cancel(video: Video, command: CancelRuns) -> list[VideoEvent]:
    if not video.exists:
        raise VideoNotFoundError(video.video_id if video.submitted else "with this id")
    active = video.active_runs()
    if not active:
        raise NotPossibleError("the analysis has ended already; there is nothing to cancel")
    if video.live and not video.stopping:
        return [StopRequested(video_id=video.video_id, requested_at=command.at)]
    return [_cancelled(run, command.reason, command.at) for run in active]


def _delete(video: Video, command: DeleteVideo) -> list[VideoEvent]:
    if not video.exists:
        raise VideoNotFoundError(video.video_id if video.submitted else "with this id")
    cancelled = [_cancelled(run, "the video was deleted", command.at) for run in video.active_runs()]
    return [*cancelled, VideoDeleted(video_id=video.video_id, deleted_at=command.at)]


def _record_purge(video: Video, command: RecordPurge) -> list[VideoEvent]:
    if not video.deleted or video.purged:
        return []
    pending = [_segments_purged(video, expired_numbers(one), 0, command.at) for one in video.expiries]
    return [
        *pending,
        VideoPurged(video_id=video.video_id, bytes_freed=command.bytes_freed, purged_at=command.at),
    ]
