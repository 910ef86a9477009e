"""The domain events: what has happened, in the past tense, small, without pixels and without secrets.

Streams: `video-{video_id}`, `frames-{video_id}-{segment}`, `results-{run_id}-{segment}` (segment counted from 0,
in six digits). Ids are UUID strings. Times are Unix seconds (UTC) unless said otherwise.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from monolith.domain.detection import Detection
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import ExpiredSegment, SegmentPlan, SourceInfo, SourcePosition, StoredFrame

SourceKind: TypeAlias = Literal["file", "url", "upload", "rtmp", "webrtc"]
"""`rtmp`, `webrtc`: publishers push the pictures to the program."""
Transport: TypeAlias = Literal["file", "hls", "http", "rtsp", "rtmp", "webrtc"]
"""How the pictures come: from a file on the disk (all of it is there before the work begins), or followed while they
come: an HLS playlist, an HTTP answer that is read as it arrives, RTSP; or pushed by a publisher (RTMP, WebRTC)."""
PushKind: TypeAlias = Literal["rtmp", "webrtc"]
"""Of the sources that are pushed."""
PUSH_KINDS: Final[tuple[PushKind, ...]] = ("rtmp", "webrtc")


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all domain events. They hold no cycles, so the garbage collector need not follow them."""


class VideoSubmitted(Event, frozen=True, kw_only=True, gc=False):
    """A user asked for a video. `video_url` is shown to users (redacted: without a password); `location` is where the
    program finds it: an absolute path for files and uploads, the URL for URLs. `source_digest`: tells whether a repeat
    means the same source (see `SubmitVideo`)."""

    video_id: str
    video_name: str
    video_url: str
    source_kind: SourceKind
    location: str
    submitted_at: float
    source_digest: str | None = None


class RunRequested(Event, frozen=True, kw_only=True, gc=False):
    """One pass of `models` (keys) over the video's frames with `n % frame_step == 0`."""

    video_id: str
    run_id: str
    models: tuple[str, ...]
    frame_step: int
    max_height: int
    jpeg_quality: int
    infer_from: str
    requested_at: float


class VideoProbed(Event, frozen=True, kw_only=True, gc=False):
    """The source lies at `path` (spooled there from a URL, or the file itself) and holds a video.

    `spooled`: the file is ours to remove. `ingest_seconds`: fetching, probing and scanning. `size_bytes` and
    `modified_ns` (Unix nanoseconds) tell whether it is still the file that was scanned. A source that is followed
    (`transport` is not `file`) has no file: `path` is empty, `size_bytes` 0.
    """

    video_id: str
    path: str
    spooled: bool
    size_bytes: int
    source: SourceInfo
    ingest_seconds: float
    modified_ns: int | None = None
    transport: Transport = "file"


class SegmentsPlanned(Event, frozen=True, kw_only=True, gc=False):
    """Segments of the video; `final`: no more will come. A source that is followed gets one at a time."""

    video_id: str
    segments: tuple[SegmentPlan, ...]
    pts_digest: str | None
    final: bool


class SegmentCompleted(Event, frozen=True, kw_only=True, gc=False):
    """A run has closed a segment: `frames` analysed, `dropped` sampled frames that have no result."""

    video_id: str
    run_id: str
    segment: int
    frames: int
    dropped: int
    last_frame: int | None


class SegmentFailed(Event, frozen=True, kw_only=True, gc=False):
    """An attempt at a segment failed. `permanent`: another attempt cannot help. `settled`: how many pictures were
    stored, and judged by a model, by then: what a later attempt is spared."""

    video_id: str
    run_id: str
    segment: int
    attempt: int
    reason: str
    permanent: bool
    settled: int = 0


class StreamConnected(Event, frozen=True, kw_only=True, gc=False):
    """A source that is followed gives pictures. `connection` counts from 1; its first picture is `first_frame`, in
    segment `segment`, at `timestamp` (seconds on the video's timeline), and came at `wall_time` (Unix seconds): frame
    times of this connection are wall_time + (timestamp of the frame - `timestamp`)."""

    video_id: str
    connection: int
    segment: int
    first_frame: int
    timestamp: float
    wall_time: float


class StreamDisconnected(Event, frozen=True, kw_only=True, gc=False):
    """The connection gave no more pictures after frame `last_frame` (None: it gave none); `reason` is for users."""

    video_id: str
    connection: int
    last_frame: int | None
    reason: str
    disconnected_at: float


class StopRequested(Event, frozen=True, kw_only=True, gc=False):
    """A user wants a live source to end: what is there is finished, then it counts as ended."""

    video_id: str
    requested_at: float


class SourceEnded(Event, frozen=True, kw_only=True, gc=False):
    """A sequential source has ended after `frames` pictures. `reason`: why, where it did not just come to its end."""

    video_id: str
    frames: int
    reason: str | None = None


class RunCompleted(Event, frozen=True, kw_only=True, gc=False):
    """Every segment of the run is closed. `coverage`: frames with results / frames sampled, 0–1."""

    video_id: str
    run_id: str
    frames: int
    dropped: int
    greatest_frame: int
    coverage: float
    completed_at: float


class RunFailed(Event, frozen=True, kw_only=True, gc=False):
    """The run ended without covering the video; what was analysed is kept. `error` is for users."""

    video_id: str
    run_id: str
    error: str
    failed_at: float


class RunCancelled(Event, frozen=True, kw_only=True, gc=False):
    """A user ended the run; what was analysed is kept."""

    video_id: str
    run_id: str
    reason: str
    cancelled_at: float


class SegmentsExpired(Event, frozen=True, kw_only=True, gc=False):
    """Retention lets these segments go: their frames, results and files. Their sums stay, here.

    `older_than`: Unix seconds; nothing happened to these segments since.
    """

    video_id: str
    segments: tuple[ExpiredSegment, ...]
    older_than: float
    expired_at: float


class SegmentsPurged(Event, frozen=True, kw_only=True, gc=False):
    """Files and streams of the segments of one SegmentsExpired are gone. `bytes_freed`: on the disk, analytics files
    left out."""

    video_id: str
    segments: tuple[int, ...]
    bytes_freed: int
    purged_at: float


class VideoDeleted(Event, frozen=True, kw_only=True, gc=False):
    """The video and everything about it is to go: files, rows, streams."""

    video_id: str
    deleted_at: float


class VideoPurged(Event, frozen=True, kw_only=True, gc=False):
    """Everything about a deleted video is gone but this stream. `bytes_freed`: on the disk, analytics files left
    out."""

    video_id: str
    bytes_freed: int
    purged_at: float


class FramesStored(Event, frozen=True, kw_only=True, gc=False):
    """Sampled pictures, synced in `pack` (a file name below the video's folder) by attempt `attempt`.

    Stage times in seconds, summed over the batch. `position`: of the last picture, where the source can be gone on with
    behind it after a break (live HLS).
    """

    video_id: str
    segment: int
    attempt: int
    pack: str
    frames: tuple[StoredFrame, ...]
    decode_seconds: float
    resize_seconds: float
    encode_seconds: float
    position: SourcePosition | None = None


class FramesDropped(Event, frozen=True, kw_only=True, gc=False):
    """Sampled pictures without a result in run `run_id`: damaged, or a model could not judge them."""

    video_id: str
    run_id: str
    segment: int
    frame_numbers: tuple[int, ...]
    reason: str
    model: str | None = None
    """The model key that could not judge them; None: no model has them."""


class SegmentClaimed(Event, frozen=True, kw_only=True, gc=False):
    """Opens attempt `attempt` (from 1) at a segment of a run, in its results stream and in its frames stream, so that
    no earlier attempt can write to either any more. `owner`: which process holds it."""

    video_id: str
    run_id: str
    segment: int
    attempt: int
    owner: str
    claimed_at: float


class AnalysedFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What one model found in one frame. `started_at`: Unix seconds; `seconds`: inference time."""

    frame_number: int
    timestamp: float
    detections: tuple[Detection, ...]
    started_at: float
    seconds: float


class FramesAnalysed(Event, frozen=True, kw_only=True, gc=False):
    """What one model found in a batch of frames."""

    video_id: str
    run_id: str
    segment: int
    attempt: int
    model: ModelIdentity
    frames: tuple[AnalysedFrame, ...]


class SegmentClosed(Event, frozen=True, kw_only=True, gc=False):
    """Every sampled frame of the segment has its results or is dropped.

    `frames`: with results of every model; `dropped`: without; `last_frame`: the greatest frame number of the segment,
    sampled or not (None: it held none); `end_of_source`: the source ended in it.
    """

    video_id: str
    run_id: str
    segment: int
    attempt: int
    frames: int
    dropped: int
    last_frame: int | None
    end_of_source: bool


VideoEvent: TypeAlias = (
    VideoSubmitted
    | RunRequested
    | VideoProbed
    | SegmentsPlanned
    | SegmentCompleted
    | SegmentFailed
    | StreamConnected
    | StreamDisconnected
    | StopRequested
    | SourceEnded
    | SegmentsExpired
    | SegmentsPurged
    | RunCompleted
    | RunFailed
    | RunCancelled
    | VideoDeleted
    | VideoPurged
)
FrameEvent: TypeAlias = SegmentClaimed | FramesStored | FramesDropped
ResultEvent: TypeAlias = SegmentClaimed | FramesAnalysed | SegmentClosed
DomainEvent: TypeAlias = VideoEvent | FrameEvent | ResultEvent

DOMAIN_EVENTS: Final[tuple[type[DomainEvent], ...]] = (
    VideoSubmitted, RunRequested, VideoProbed, SegmentsPlanned, SegmentCompleted, SegmentFailed,
    StreamConnected, StreamDisconnected, StopRequested, SourceEnded, SegmentsExpired, SegmentsPurged, RunCompleted,
    RunFailed, RunCancelled, VideoDeleted, VideoPurged, FramesStored, FramesDropped, SegmentClaimed, FramesAnalysed,
    SegmentClosed,
)  # fmt: skip


STREAM_PREFIXES: Final = ("video-", "frames-", "results-")
"""Of the streams that domain events lie in."""
HIDDEN_FIELDS: Final = ("location", "path", "source_digest")
"""Fields of events with addresses inside the server, or that help to guess a secret: shown to nobody."""


def video_stream(video_id: str) -> str:
    return f"video-{video_id}"


def frames_stream(video_id: str, segment: int) -> str:
    return f"frames-{video_id}-{segment:06d}"


def results_stream(run_id: str, segment: int) -> str:
    return f"results-{run_id}-{segment:06d}"
