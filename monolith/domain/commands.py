"""What can be asked of a video. `monolith.domain.video.decide` answers with events."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.events import SourceKind, Transport
from monolith.domain.segment import ExpiredSegment, SegmentPlan, SourceInfo


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all commands. `at` is Unix time in seconds: the domain reads no clock."""

    at: float


class SubmitVideo(Command, frozen=True, kw_only=True):
    """A new video with its first run. `source_digest`: of an upload's bytes, or of a URL that is not shown whole."""

    video_id: str
    run_id: str
    video_name: str
    video_url: str
    source_kind: SourceKind
    location: str
    models: tuple[str, ...]
    frame_step: int
    max_height: int
    jpeg_quality: int
    infer_from: str
    source_digest: str | None = None


class RecordProbe(Command, frozen=True, kw_only=True):
    """The source was fetched, probed and scanned."""

    path: str
    spooled: bool
    size_bytes: int
    source: SourceInfo
    ingest_seconds: float
    modified_ns: int | None = None
    transport: Transport = "file"


class PlanSegment(Command, frozen=True, kw_only=True):
    """The next segment of a source that is followed begins. Its number tells whether it was planned already."""

    plan: SegmentPlan


class RecordConnection(Command, frozen=True, kw_only=True):
    """A source that is followed gives pictures (see `StreamConnected`)."""

    connection: int
    segment: int
    first_frame: int
    timestamp: float
    wall_time: float


class RecordDisconnection(Command, frozen=True, kw_only=True):
    """It gives none any more (see `StreamDisconnected`)."""

    connection: int
    last_frame: int | None
    reason: str


class EndSource(Command, frozen=True, kw_only=True):
    """A source that is followed has ended after `frames` pictures, and no segment of it is open."""

    frames: int
    reason: str | None = None


class CompleteSegment(Command, frozen=True, kw_only=True):
    """A run has closed a segment."""

    run_id: str
    segment: int
    frames: int
    dropped: int
    last_frame: int | None
    end_of_source: bool


class FailSegment(Command, frozen=True, kw_only=True):
    """An attempt at a segment failed. `attempts_allowed`: failures in a row without progress that end the run."""

    run_id: str
    segment: int
    attempt: int
    reason: str
    permanent: bool
    attempts_allowed: int
    settled: int = 0


class FailVideo(Command, frozen=True, kw_only=True):
    """The source cannot be analysed at all: every unfinished run fails."""

    reason: str


class CancelRuns(Command, frozen=True, kw_only=True):
    """A user ends every unfinished run. A live source is asked to end first; asked again, its runs are cancelled."""

    reason: str


class ExpireSegments(Command, frozen=True, kw_only=True):
    """Retention lets segments go; those that an unfinished run still needs, or that are gone, stay out."""

    segments: tuple[ExpiredSegment, ...]
    older_than: float


class RecordSegmentsPurge(Command, frozen=True, kw_only=True):
    """The files and streams of the segments of one SegmentsExpired are gone."""

    segments: tuple[int, ...]
    bytes_freed: int


class DeleteVideo(Command, frozen=True, kw_only=True):
    """A user wants the video gone."""


class RecordPurge(Command, frozen=True, kw_only=True):
    """Everything about the deleted video is gone."""

    bytes_freed: int


VideoCommand: TypeAlias = (
    SubmitVideo
    | RecordProbe
    | PlanSegment
    | RecordConnection
    | RecordDisconnection
    | EndSource
    | ExpireSegments
    | RecordSegmentsPurge
    | CompleteSegment
    | FailSegment
    | FailVideo
    | CancelRuns
    | DeleteVideo
    | RecordPurge
)
