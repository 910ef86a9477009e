"""What can be asked of a video. `monolith.domain.video.decide` answers with events."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.events import SourceKind
from monolith.domain.segment import SourceInfo


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
    """A user ends every unfinished run."""

    reason: str


class DeleteVideo(Command, frozen=True, kw_only=True):
    """A user wants the video gone."""


class RecordPurge(Command, frozen=True, kw_only=True):
    """Everything about the deleted video is gone."""

    bytes_freed: int


VideoCommand: TypeAlias = (
    SubmitVideo
    | RecordProbe
    | CompleteSegment
    | FailSegment
    | FailVideo
    | CancelRuns
    | DeleteVideo
    | RecordPurge
)
