"""What is known of videos and their runs, as the API shows it."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import apsw
import msgspec

from monolith.domain.events import Transport
from monolith.domain.models import INFERENCE_MODEL_NAMES, MODEL_KEYS
from monolith.readmodels.connections import ConnectionCounts, count_connections

Status: TypeAlias = Literal["Pending", "Processing", "Completed", "Failed"]

_RUN_COLUMNS: Final = (
    "run_no, run_id, models, frame_step, status, error, requested_at, ended_at, frames_analyzed,"
    " frames_dropped, greatest_frame, coverage"
)
_VIDEO_COLUMNS: Final = (
    "video_no, video_id, video_name, video_url, source_kind, submitted_at, probe, frames_total, frames_stored,"
    " first_run_no, submitted_position, expired_segments, frames_expired, stopping"
)
_OF_VIDEOS: Final = "video_no IN (SELECT value FROM json_each(?))"
_RUNS: Final = f"SELECT video_no, {_RUN_COLUMNS} FROM runs WHERE {_OF_VIDEOS}"  # noqa: S608
_PLANNED: Final = f"SELECT video_no, count(*) FROM segments WHERE {_OF_VIDEOS} GROUP BY video_no"  # noqa: S608
_STATES: Final = (
    "SELECT run_no, state, count(*) FROM run_segments"  # noqa: S608
    f" WHERE run_no IN (SELECT run_no FROM runs WHERE {_OF_VIDEOS}) GROUP BY run_no, state"
)
_END: Final = 2**63 - 1
_NEVER: Final = 0
"""`greatest_frame_analyzed` before the first frame (frames count from 1)."""


class SegmentCounts(msgspec.Struct, frozen=True):
    """Segments of the video as planned so far, and how far a run is with them."""

    planned: int
    closed: int
    failed: int


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `frames_sampled`, `coverage`, `progress` are None while the length of the video is not known.

    `frames_sampled`: frames that the run is to judge; `frames_analyzed`: those with a result of every model;
    `frames_dropped`: those that will have none; `coverage`: analysed / sampled, 0–1; `progress`: 0–1, 1 at the end.
    """

    run_no: int
    run_id: str
    models: tuple[str, ...]
    frame_step: int
    status: Status
    error: str | None
    requested_at: float
    ended_at: float | None
    frames_sampled: int | None
    frames_analyzed: int
    frames_dropped: int
    greatest_frame_analyzed: int
    coverage: float | None
    progress: float | None
    segments: SegmentCounts


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found of the source. `duration` in seconds, sizes in pixels and bytes.

    `transport`: `file`, or how the pictures come while they are analysed: `hls`, `http`, `rtsp` (`size_bytes` is 0
    then). `live`: they come as they happen; what is missed is gone.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    duration: float | None
    frame_rate: float | None
    frames: int | None
    indexed: bool
    truncated: str | None
    size_bytes: int
    warnings: tuple[str, ...] = ()
    live: bool = False
    transport: Transport = "file"


class VideoView(msgspec.Struct, frozen=True, kw_only=True):
    """A video with its runs, the first run first.

    `parked_events`: events of it that could not be projected; `submitted_position`: commit position of its first event.
    `expired_segments`, `frames_expired`: what retention has removed; the sums, `frames_stored` too, still count it.
    """

    video_no: int
    video_id: str
    video_name: str
    video_url: str
    source_kind: str
    submitted_at: float
    media: Media | None
    frames_total: int | None
    frames_stored: int
    runs: tuple[RunView, ...]
    parked_events: int
    submitted_position: int
    expired_segments: int = 0
    frames_expired: int = 0
    connections: int = 0
    connected: bool = False
    """A live source gives pictures now, by the last of its `connections`."""
    stopping: bool = False
    """A user has asked for the live source's end."""
    generation: int = 0
    """Of the file that `video_no` and the `run_no`s belong to (see `queries`)."""

    @property
    def first_run(self) -> RunView | None:
        return self.runs[0] if self.runs else None

    @property
    def status(self) -> Status:
        return self.runs[0].status if self.runs else "Pending"


class Metric(msgspec.Struct, frozen=True):
    """A sum over a video; times in seconds."""

    metric_name: str
    metric_value: float


def find_video(connection: apsw.Connection, video_id: str) -> VideoView | None:
    row = connection.execute(
        f"SELECT {_VIDEO_COLUMNS} FROM videos WHERE video_id = ?",  # noqa: S608
        (video_id,),
    ).fetchone()
    return None if row is None else _views(connection, [row])[0]


def list_videos(
    connection: apsw.Connection,
    status: Status | None,
    limit: int | None,
    offset: int,
    before: int | None = None,
) -> list[VideoView]:
    """Videos whose first run has `status` (None: any), the newest first; `before`: older than this `video_no`."""
    of_status = "" if status is None else "status = :status AND"
    rows = connection.execute(
        f"SELECT {_VIDEO_COLUMNS} FROM videos WHERE {of_status} video_no < :before"  # noqa: S608
        " ORDER BY video_no DESC LIMIT :limit OFFSET :offset",
        {
            "status": status,
            "before": _END if before is None else before,
            "limit": -1 if limit is None else limit,
            "offset": offset,
        },
    ).fetchall()
    return _views(connection, rows)


def count_videos(connection: apsw.Connection) -> dict[str, int]:
    """How many videos there are of each status."""
    rows: list[Any] = connection.execute("SELECT status, count(*) FROM videos GROUP BY status").fetchall()
    return dict(rows)


def count_parked(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM parked").get)


def video_metrics(connection: apsw.Connection, video: VideoView, run_numbers: list[int]) -> list[Metric]:
    """Sums of the video, and of the runs `run_numbers`."""
    row: Any = connection.execute(
        "SELECT ingest_seconds, frames_stored, decode_nanoseconds, resize_nanoseconds, encode_nanoseconds"
        " FROM videos WHERE video_no = ?",
        (video.video_no,),
    ).fetchone()
    if row is None:
        return []
    ingest, stored, decode, resize, encode = row
    metrics = [
        Metric("Video Ingest Time", ingest or 0.0),
        Metric("Total Frames Extracted", stored),
        Metric("Frame Decode Time", decode / 1e9),
        Metric("Frame Resize Time", resize / 1e9),
        Metric("Frame Encode Time", encode / 1e9),
    ]
    runs = [run for run in video.runs if run.run_no in run_numbers]
    metrics += [Metric("Total Frames Analyzed", sum(run.frames_analyzed for run in runs))]
    metrics += _model_metrics(connection, run_numbers)
    first = video.first_run
    if first is not None and first.ended_at is not None:
        metrics += _wall_time(first, video.submitted_at)
    return metrics


def _model_metrics(connection: apsw.Connection, run_numbers: list[int]) -> list[Metric]:
    marks = ",".join("?" * len(run_numbers))
    rows = connection.execute(
        f"SELECT model_no, sum(frames), sum(nanoseconds) FROM run_models WHERE run_no IN ({marks}) GROUP BY model_no",  # noqa: S608
        run_numbers,
    )
    metrics = []
    for model_no, frames, nanoseconds in rows:
        name = INFERENCE_MODEL_NAMES[MODEL_KEYS[model_no]]
        metrics += [Metric(f"{name} Frames", frames), Metric(f"{name} Inference Time", nanoseconds / 1e9)]
    return metrics


def _wall_time(run: RunView, submitted_at: float) -> list[Metric]:
    assert run.ended_at is not None
    seconds = max(0.0, run.ended_at - submitted_at)
    rate = run.frames_analyzed / seconds if seconds else 0.0
    return [Metric("Wall Time", seconds), Metric("Frames Analyzed Per Second", rate)]


class _Details:
    """What other tables know of some videos: one query for each table, however many videos."""

    def __init__(self, connection: apsw.Connection, numbers: list[int]) -> None:
        wanted = (msgspec.json.encode(numbers).decode(),)
        self.runs: dict[int, list[tuple[Any, ...]]] = {}
        for video_no, *run in connection.execute(f"{_RUNS} ORDER BY run_no", wanted):
            self.runs.setdefault(video_no, []).append(tuple(run))
        self.planned: dict[int, int] = dict(connection.execute(_PLANNED, wanted))
        self.states: dict[int, dict[str, int]] = {}
        for run_no, state, count in connection.execute(_STATES, wanted):
            self.states.setdefault(run_no, {})[state] = count
        self.connections = count_connections(connection, wanted[0])
        self.parked = _parked(connection)


def _views(connection: apsw.Connection, rows: list[Any]) -> list[VideoView]:
    details = _Details(connection, [row[0] for row in rows])
    return [_video(row, details) for row in rows]


def _video(row: tuple[Any, ...], details: _Details) -> VideoView:
    (video_no, video_id, name, url, kind, submitted_at, probe, total, stored, first_run_no, *more) = row
    position, expired_segments, frames_expired, stopping = more
    media = None if probe is None else msgspec.json.decode(probe, type=Media)
    expected, planned = _expected_frames(total, media), details.planned.get(video_no, 0)
    found = sorted(details.runs.get(video_no, ()), key=lambda run: run[0] != first_run_no)
    runs = tuple(_run(run, total, expected, planned, details.states.get(run[0], {})) for run in found)
    counts = details.connections.get(video_no, ConnectionCounts())
    under_way = any(run.status == "Processing" for run in runs)
    owners = (f"video-{video_id}", f"frames-{video_id}", *(f"results-{run.run_id}" for run in runs))
    return VideoView(
        video_no=video_no,
        video_id=video_id,
        video_name=name,
        video_url=url,
        source_kind=kind,
        submitted_at=submitted_at,
        media=media,
        frames_total=total,
        frames_stored=stored,
        runs=runs,
        parked_events=sum(details.parked.get(owner, 0) for owner in owners),
        submitted_position=position,
        expired_segments=expired_segments,
        frames_expired=frames_expired,
        connections=counts.made,
        connected=counts.connected and under_way,
        stopping=bool(stopping) and under_way,
    )


def _expected_frames(total: int | None, media: Media | None) -> int | None:
    """How many pictures the video has, or by its duration should have."""
    if total is not None or media is None or media.duration is None or media.frame_rate is None:
        return total
    return round(media.duration * media.frame_rate)


def _run(
    row: tuple[Any, ...], total: int | None, expected: int | None, planned: int, states: dict[str, int]
) -> RunView:
    (run_no, run_id, models, step, status, error, requested, ended, analyzed, dropped, greatest, coverage) = (
        row
    )
    sampled = _sampled(total, step, status, analyzed + dropped)
    if coverage is None and sampled is not None:
        coverage = min(1.0, analyzed / sampled) if sampled else None
    return RunView(
        run_no=run_no,
        run_id=run_id,
        models=msgspec.json.decode(models, type=tuple[str, ...]),
        frame_step=step,
        status=status,
        error=error,
        requested_at=requested,
        ended_at=ended,
        frames_sampled=sampled,
        frames_analyzed=analyzed,
        frames_dropped=dropped,
        greatest_frame_analyzed=greatest or _NEVER,
        coverage=coverage,
        progress=_progress(status, analyzed + dropped, None if expected is None else expected // step),
        segments=SegmentCounts(planned, states.get("closed", 0), states.get("failed", 0)),
    )


def _sampled(total: int | None, step: int, status: str, done: int) -> int | None:
    if total is not None:
        return total // step
    return done if status == "Completed" else None


def _progress(status: str, done: int, sampled: int | None) -> float | None:
    if status == "Completed":
        return 1.0
    if status == "Pending":
        return 0.0
    if sampled is None:
        return None
    return min(1.0, done / sampled) if sampled else 1.0


def _parked(connection: apsw.Connection) -> dict[str, int]:
    """Parked events by `video-…`, `frames-{video_id}`, `results-{run_id}`: stream names without the segment."""
    counts: dict[str, int] = {}
    for name, count in connection.execute("SELECT stream_name, count(*) FROM parked GROUP BY stream_name"):
        owner = name if name.startswith("video-") else name.rpartition("-")[0]
        counts[owner] = counts.get(owner, 0) + count
    return counts
