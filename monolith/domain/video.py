"""A video: what its stream says (`evolve`). What may happen to it next is in `decisions`. Pure: no clock, no I/O.

Rules:
- The first event is VideoSubmitted; it comes with the first RunRequested.
- VideoProbed comes once, with SegmentsPlanned; nothing is analysed before. A source that is followed gets its segments
  one at a time, each when the one before is done, until SourceEnded.
- A run completes when every planned segment is completed and, for a sequential source, the source has ended;
  segments planned beyond its end need no completion.
- A run whose source is cut short, or that has no picture with results, ends as RunFailed; its results stay.
- A live source that is cancelled ends in order (StopRequested); cancelled once more, its runs are cancelled.
- A segment expires when no unfinished run needs it; each SegmentsExpired is answered by one SegmentsPurged.
- After a run's end nothing more is recorded for it. After VideoDeleted only SegmentsPurged and VideoPurged follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import msgspec

from monolith.domain.events import (
    PUSH_KINDS,
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
from monolith.domain.growing import Growing, Numbers
from monolith.domain.requests import is_rtsp
from monolith.domain.run import Run, RunStatus
from monolith.domain.segment import SegmentPlan


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """A video as its events tell. `submitted` is None before the first event."""

    submitted: VideoSubmitted | None = None
    probe: VideoProbed | None = None
    segments: Growing[SegmentPlan] = Growing()
    planned: bool = False
    frames: int | None = None
    """Pictures of the whole video, once known."""
    ended_because: str | None = None
    runs: dict[str, Run] = {}
    connections: int = 0
    connected: bool = False
    first_connection: StreamConnected | None = None
    newest_connection: StreamConnected | None = None
    stopping: bool = False
    """A user wants the live source to end."""
    expired: Numbers = Numbers()
    """Segments that retention has let go."""
    expiries: tuple[SegmentsExpired, ...] = ()
    """Those whose files and streams may still be there."""
    deleted: bool = False
    purged: bool = False

    @property
    def video_id(self) -> str:
        assert self.submitted is not None
        return self.submitted.video_id

    @property
    def exists(self) -> bool:
        return self.submitted is not None and not self.deleted

    @property
    def indexed(self) -> bool:
        return self.probe is not None and self.probe.source.indexed

    @property
    def followed(self) -> bool:
        """The source is read while its pictures come; its segments are planned one at a time."""
        return self.probe is not None and self.probe.transport != "file"

    @property
    def live(self) -> bool:
        return self.probe is not None and self.probe.source.live

    @property
    def pushed(self) -> bool:
        """Its pictures come from publishers, who connect to us."""
        return self.submitted is not None and self.submitted.source_kind in PUSH_KINDS

    @property
    def takes_publishers(self) -> bool:
        """Whether what is published to it is still analysed."""
        return self.pushed and self.takes_pictures

    @property
    def takes_pictures(self) -> bool:
        """Whether what comes of its source is still analysed."""
        going_on = self.frames is None and not self.stopping and not self.deleted
        return going_on and bool(self.active_runs())

    @property
    def live_by_url(self) -> bool:
        """Its pictures come as they happen, as far as the URL tells."""
        return self.submitted is not None and is_rtsp(self.submitted.location)

    def active_runs(self) -> list[Run]:
        return [run for run in self.runs.values() if run.active]

    def needed_segments(self) -> Iterator[SegmentPlan]:
        """The planned segments that hold pictures, as far as is known."""
        return (
            plan for plan in self.segments if self.frames is None or plan.first_frame <= max(1, self.frames)
        )

    def may_expire(self, segment: int) -> bool:
        """It was planned, is still there, and no unfinished run has anything left to do in it."""
        planned = 0 <= segment < len(self.segments)
        needed = any(segment not in run.completed for run in self.active_runs())
        return planned and not needed and segment not in self.expired

    def open_segments(self, run: Run) -> list[SegmentPlan]:
        """Segments that the run has still to complete, in order."""
        return [
            plan
            for plan in self.needed_segments()
            if plan.segment not in run.completed and plan.segment not in self.expired
        ]


def evolve(video: Video, event: VideoEvent) -> Video:
    """The video after `event`."""
    match event:
        case VideoSubmitted():
            return msgspec.structs.replace(video, submitted=event)
        case RunRequested():
            return _with_run(video, Run(request=event))
        case VideoProbed():
            frames = event.source.frames if event.source.indexed else None
            return msgspec.structs.replace(video, probe=event, frames=frames)
        case SegmentsPlanned():
            segments = video.segments.plus(event.segments)
            return msgspec.structs.replace(video, segments=segments, planned=event.final)
        case SegmentCompleted():
            return _with_run(video, video.runs[event.run_id].with_completed(event))
        case SegmentFailed():
            return _with_run(video, video.runs[event.run_id].with_failure(event))
        case SourceEnded():
            return msgspec.structs.replace(
                video, frames=event.frames, planned=True, ended_because=event.reason, connected=False
            )
        case StreamConnected():
            first = video.first_connection or event
            return msgspec.structs.replace(
                video,
                connections=event.connection,
                connected=True,
                first_connection=first,
                newest_connection=event,
            )
        case StreamDisconnected():
            return msgspec.structs.replace(video, connected=False)
        case StopRequested():
            return msgspec.structs.replace(video, stopping=True)
        case SegmentsExpired():
            return _with_expired(video, event)
        case SegmentsPurged():
            left = tuple(one for one in video.expiries if expired_numbers(one) != event.segments)
            return msgspec.structs.replace(video, expiries=left)
        case RunCompleted():
            return _ended(video, event.run_id, "completed")
        case RunFailed():
            return _ended(video, event.run_id, "failed")
        case RunCancelled():
            return _ended(video, event.run_id, "cancelled")
        case VideoDeleted():
            return msgspec.structs.replace(video, deleted=True)
        case VideoPurged():
            return msgspec.structs.replace(video, purged=True)
        case _:
            assert_never(event)


def _with_run(video: Video, run: Run) -> Video:
    return msgspec.structs.replace(video, runs={**video.runs, run.request.run_id: run})


def _ended(video: Video, run_id: str, status: RunStatus) -> Video:
    """A connection that is open when the last run ends goes with it."""
    after = _with_run(video, video.runs[run_id].ended(status))
    return msgspec.structs.replace(after, connected=after.connected and bool(after.active_runs()))


def _with_expired(video: Video, event: SegmentsExpired) -> Video:
    expired = video.expired.plus(expired_numbers(event))
    return msgspec.structs.replace(video, expired=expired, expiries=(*video.expiries, event))


def expired_numbers(event: SegmentsExpired) -> tuple[int, ...]:
    return tuple(one.segment for one in event.segments)
