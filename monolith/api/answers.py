"""The bodies of answers: field names that users' scripts rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from monolith.api.services import SubmittedVideo
from monolith.domain.events import Transport
from monolith.readmodels.connections import ConnectionView
from monolith.readmodels.videos import Media, RunView, SegmentCounts, Status, VideoView


class SubmittedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A video was taken in. `status_url`: where to look next."""

    video_id: str
    video_url: str
    status: str
    video_name: str
    models_to_run: tuple[str, ...]
    frame_step: int
    status_url: str


class WebRtcEndpointAnswer(SubmittedAnswer, frozen=True, kw_only=True):
    """A video that waits for its publisher. `whip_endpoint`: where it sends its offer; `token`: its bearer token, told
    here only."""

    whip_endpoint: str
    token: str


class RtmpEndpointAnswer(SubmittedAnswer, frozen=True, kw_only=True):
    """A video that waits for its publisher. `rtmp_endpoint`: where it publishes to; the last part of its path is the
    stream key, told here only."""

    rtmp_endpoint: str


class RunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of models over the video; fields as in VideoAnswer. `ts`, `ended`: ISO 8601, UTC."""

    run_id: str
    models_to_run: tuple[str, ...]
    frame_step: int
    status: Status
    error: str | None
    ts: str
    ended: str | None
    frames_sampled: int | None
    frames_analyzed: int
    frames_dropped: int
    greatest_frame_analyzed: int
    coverage: float | None
    progress: float | None
    segments: SegmentCounts


class VideoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A video; status, error, counts and progress are those of its first run.

    `ts`: when it was submitted, ISO 8601, UTC. `greatest_frame_analyzed`: the greatest frame with a result of every
    model, 0 before the first. `frames_total`: pictures of the video, null until known; `frames_sampled`: those to
    analyse. `coverage`, `progress`: 0–1, null while the length is not known. `parked_events`: how many facts about this
    video could not be read (normally 0). `results_url` comes with Completed. `expired_segments`, `frames_expired`: what
    retention has removed; the other counts go on counting it. `live`, `transport` (null until known): see `media`.
    `connected`: a live source gives pictures now, by the last of its `connections`, which are at `connections_url`;
    `stopping`: it is being ended.
    """

    video_id: str
    video_url: str
    status: Status
    ts: str
    frame_step: int
    error: str | None
    video_name: str
    greatest_frame_analyzed: int
    results_url: str | msgspec.UnsetType = msgspec.UNSET
    status_url: str
    models_to_run: tuple[str, ...]
    frames_total: int | None
    frames_stored: int
    frames_sampled: int | None
    frames_analyzed: int
    frames_dropped: int
    coverage: float | None
    progress: float | None
    media: Media | None
    parked_events: int
    expired_segments: int
    frames_expired: int
    live: bool
    transport: Transport | None
    connected: bool
    connections: int
    connections_url: str | msgspec.UnsetType = msgspec.UNSET
    stopping: bool
    runs: tuple[RunAnswer, ...]


class ConnectionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One connection of a live source; what broke off and came again is another one.

    It gave the frames `first_frame` to `last_frame` (null: it goes on, gave none, or ended with its analysis), from
    `ts` to `ended` (ISO 8601, UTC; null: it goes on). `wall_time` (Unix seconds) is when its first frame came, at
    `video_timestamp` seconds of the video: a frame at t seconds came at wall_time + t - video_timestamp. `reason`: why
    it ended.
    """

    video_id: str
    connection: int
    segment: int
    first_frame: int
    last_frame: int | None
    video_timestamp: float
    wall_time: float
    ts: str
    ended: str | None
    reason: str | None


class MetricAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A sum over the video; times in seconds."""

    video_id: str
    metric_name: str
    metric_value: float


class AnnotatedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An annotated video. `progress`: 0–1; `frames`: encoded so far; `error`: why it failed.

    When it is ready: `url`, where it is (an MP4); `complete`: whether no result was still to come when it was made;
    `start_time`: seconds of the video at which the file begins; `duration` in seconds; `codec`: what encoded it.
    """

    video_id: str
    status: Literal["queued", "running", "ready", "failed"]
    progress: float
    frames: int
    url: str | None
    error: str | None
    complete: bool | None
    start_time: float | None
    duration: float | None
    size_bytes: int | None
    codec: str | None


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A domain event. `recorded_at`: ISO 8601, UTC; `data`: its fields, without addresses inside the server."""

    commit_position: int
    stream_name: str
    stream_position: int
    event_type: str
    recorded_at: str
    data: dict[str, msgspec.Raw]


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons`: what is not ready, by part."""

    status: str
    reasons: dict[str, str] = {}


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `authentication`: whether this server asks for keys at all; `name`: of the key."""

    authentication: bool
    name: str
    scopes: list[str]


def submitted_answer(submitted: SubmittedVideo, base: str) -> SubmittedAnswer:
    return SubmittedAnswer(
        video_id=submitted.video_id,
        video_url=submitted.video_url,
        status="Pending",
        video_name=submitted.video_name,
        models_to_run=submitted.models,
        frame_step=submitted.frame_step,
        status_url=f"{base}/analysis/{submitted.video_id}",
    )


def video_answer(video: VideoView, base: str) -> VideoAnswer:
    first = video.first_run
    address = f"{base}/analysis/{video.video_id}"
    return VideoAnswer(
        video_id=video.video_id,
        video_url=video.video_url,
        status=video.status,
        ts=iso_time(video.submitted_at),
        frame_step=first.frame_step if first else 1,
        error=first.error if first else None,
        video_name=video.video_name,
        greatest_frame_analyzed=first.greatest_frame_analyzed if first else 0,
        results_url=f"{address}/results" if video.status == "Completed" else msgspec.UNSET,
        status_url=address,
        models_to_run=first.models if first else (),
        frames_total=video.frames_total,
        frames_stored=video.frames_stored,
        frames_sampled=first.frames_sampled if first else None,
        frames_analyzed=first.frames_analyzed if first else 0,
        frames_dropped=first.frames_dropped if first else 0,
        coverage=first.coverage if first else None,
        progress=first.progress if first else None,
        media=video.media,
        parked_events=video.parked_events,
        expired_segments=video.expired_segments,
        frames_expired=video.frames_expired,
        live=video.media is not None and video.media.live,
        transport=video.media.transport if video.media else None,
        connected=video.connected,
        connections=video.connections,
        connections_url=f"{address}/connections" if video.connections else msgspec.UNSET,
        stopping=video.stopping,
        runs=tuple(map(_run_answer, video.runs)),
    )


def connection_answer(video_id: str, view: ConnectionView) -> ConnectionAnswer:
    return ConnectionAnswer(
        video_id=video_id,
        connection=view.connection,
        segment=view.segment,
        first_frame=view.first_frame,
        last_frame=view.last_frame,
        video_timestamp=view.timestamp,
        wall_time=view.wall_time,
        ts=iso_time(view.wall_time),
        ended=None if view.ended_at is None else iso_time(view.ended_at),
        reason=view.reason,
    )


def _run_answer(run: RunView) -> RunAnswer:
    return RunAnswer(
        run_id=run.run_id,
        models_to_run=run.models,
        frame_step=run.frame_step,
        status=run.status,
        error=run.error,
        ts=iso_time(run.requested_at),
        ended=None if run.ended_at is None else iso_time(run.ended_at),
        frames_sampled=run.frames_sampled,
        frames_analyzed=run.frames_analyzed,
        frames_dropped=run.frames_dropped,
        greatest_frame_analyzed=run.greatest_frame_analyzed,
        coverage=run.coverage,
        progress=run.progress,
        segments=run.segments,
    )


def iso_time(seconds: float) -> str:
    """Unix seconds → ISO 8601, UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
