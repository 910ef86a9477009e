"""Events → rows, in the same transaction as the checkpoint.

Events about a video or a run that has no row (deleted meanwhile), or about a segment that has expired, change nothing:
a rebuild, which sees the remains of deleted videos and of expired segments only, ends with the same rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import apsw
import msgspec

from eventsourcing.events import RecordedEvent
from monolith.domain.events import (
    DomainEvent,
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    SegmentClaimed,
    SegmentClosed,
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
    VideoProbed,
    VideoSubmitted,
)
from monolith.domain.models import DEFAULT_THRESHOLDS, MODEL_KEYS
from monolith.readmodels.cleaning import doom
from monolith.readmodels.connections import add_connection, end_connection, end_with_run
from monolith.readmodels.database import Database
from monolith.readmodels.expiries import Expiries, expire, forget_parked
from monolith.readmodels.rendering import RowRenderer, encode_detections
from monolith.readmodels.schema import (
    FRAME_BITS,
    KEY_BITS,
    MAX_FRAME_NUMBER,
    MODEL_BITS,
    MODEL_MASK,
    MODEL_NUMBERS,
    frame_id,
    result_id,
)
from monolith.readmodels.sums import Sums

PROJECTION_NAME: Final = "read-models"
PREFIXES: Final = ("video-", "frames-", "results-")

_ALL_MODELS: Final = MODEL_MASK
"""`dropped.model_no` of a frame that no model has."""
_CACHED: Final = 10_000
_LONGEST_ERROR: Final = 2000


class EventDecoder(Protocol):
    """What the projection needs of the event codec."""

    def decode(self, recorded: RecordedEvent, /) -> msgspec.Struct: ...


class _Run(msgspec.Struct, frozen=True):
    run_no: int
    video_no: int
    models: int
    """How many."""


class ReadModelProjection:
    """The `Projection` of the read models (see `eventsourcing.projection`)."""

    name = PROJECTION_NAME
    prefixes: Sequence[str] = PREFIXES

    def __init__(
        self,
        database: Database,
        codec: EventDecoder,
        *,
        on_doomed: Callable[[], None] = lambda: None,
        expiries: Expiries | None = None,
    ) -> None:
        """`on_doomed` is called when rows wait to be removed (see `cleaning`). `expiries`: segments that are known to
        expire later: their events are passed over at once. The rows after their SegmentsExpired are the same without.
        """
        self.parked = 0
        """Events that could not be projected. Any thread may read it."""
        self._database = database
        self._codec = codec
        self._on_doomed = on_doomed
        self._expiries = expiries or Expiries()

    def use(self, database: Database) -> None:
        """Go on with another file, which has seen at least as much. Only while nothing is applied."""
        self._database = database

    async def apply(self, events: list[RecordedEvent]) -> None:
        """Project `events` (in commit order) and the checkpoint: all or nothing. Those projected before are skipped.

        Raises what decoding raises, and StoreUnavailableError.
        """
        done = await self._database.write(functools.partial(_apply, events, self._codec, self._expiries))
        self.parked = done.parked
        if done.doomed:
            self._on_doomed()

    async def checkpoint(self) -> int | None:
        """Commit position of the last event projected or parked."""
        self.parked = await self._database.read(_count_parked)
        return await self._database.read(_checkpoint)

    async def parked_streams(self) -> list[str]:
        """Streams with a parked event: what follows in them is parked too."""
        return await self._database.read(_parked_streams)

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        """Set a poisonous event aside and go on behind it."""
        self.parked = await self._database.write(functools.partial(_park, event, error))


class _Done(msgspec.Struct, frozen=True):
    parked: int
    doomed: bool


def _count_parked(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM parked").get)


def _checkpoint(connection: apsw.Connection) -> int | None:
    found = connection.execute(
        "SELECT commit_position FROM checkpoints WHERE name = ?", (PROJECTION_NAME,)
    ).get
    return int(found) if found is not None else None


def _parked_streams(connection: apsw.Connection) -> list[str]:
    rows: list[Any] = connection.execute("SELECT DISTINCT stream_name FROM parked").fetchall()
    return [name for (name,) in rows]


def _advance(connection: apsw.Connection, commit_position: int) -> None:
    connection.execute("INSERT OR REPLACE INTO checkpoints VALUES(?, ?)", (PROJECTION_NAME, commit_position))


def _apply(
    events: list[RecordedEvent], codec: EventDecoder, expiries: Expiries, connection: apsw.Connection
) -> _Done:
    done = _checkpoint(connection)
    projector = _Projector(connection, expiries)
    last = None
    for event in events:
        if done is None or event.commit_position > done:
            projector.project(codec.decode(event), event)
            last = event.commit_position
    if last is not None:
        _advance(connection, last)
    return _Done(_count_parked(connection), projector.doomed)


def _park(event: RecordedEvent, error: BaseException, connection: apsw.Connection) -> int:
    """How many are parked now."""
    if not _belongs_to_none(event.stream_name, connection):
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        connection.execute(
            "INSERT OR REPLACE INTO parked VALUES(?, ?, ?, ?)",
            (event.commit_position, event.stream_name, event.event_type, text),
        )
    done = _checkpoint(connection)
    if done is None or event.commit_position > done:
        _advance(connection, event.commit_position)
    return _count_parked(connection)


def _belongs_to_none(stream_name: str, connection: apsw.Connection) -> bool:
    """Whether it holds remains of a deleted video: nobody will ask for them, and a rebuild may not see them."""
    kind, _, rest = stream_name.partition("-")
    owner = rest.rpartition("-")[0]
    match kind:
        case "frames":
            found = connection.execute("SELECT 1 FROM videos WHERE video_id = ?", (owner,))
        case "results":
            found = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (owner,))
        case _:
            return False
    return found.get is None


class _Projector:
    """Projects events on one connection, within one transaction."""

    def __init__(self, connection: apsw.Connection, expiries: Expiries) -> None:
        self.doomed = False
        """Whether rows were left to the cleaner."""
        self._connection = connection
        self._sums = Sums(connection)
        self._expiries = expiries
        self._expired: dict[tuple[str, int], bool] = {}
        self._recorded_at = 0.0
        self._runs: dict[str, _Run | None] = {}
        self._videos: dict[str, int | None] = {}

    def project(self, event: Any, recorded: RecordedEvent) -> None:
        """Change the rows as `event` says; events of other types change nothing."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            self._recorded_at = recorded.recorded_at
            handler(self, event, recorded.commit_position)

    # Looking up.

    def _one(self, sql: str, values: tuple[apsw.SQLiteValue, ...]) -> Any:
        return self._connection.execute(sql, values).get

    def _run(self, run_id: str) -> _Run | None:
        if run_id not in self._runs:
            row = self._one(
                "SELECT run_no, video_no, json_array_length(models) FROM runs WHERE run_id = ?", (run_id,)
            )
            self._runs[run_id] = None if row is None else _Run(*row)
        return self._runs[run_id]

    def _video(self, video_id: str) -> int | None:
        if video_id not in self._videos:
            self._videos[video_id] = self._one("SELECT video_no FROM videos WHERE video_id = ?", (video_id,))
        return self._videos[video_id]

    def _all_runs(self, video_no: int) -> dict[str, int]:
        """run_id → run_no."""
        sql = "SELECT run_id, run_no FROM runs WHERE video_no = ?"
        rows: list[Any] = self._connection.execute(sql, (video_no,)).fetchall()
        return dict(rows)

    def _has_expired(self, video_id: str, segment: int) -> bool:
        known = self._expired.get((video_id, segment))
        if known is None:
            found = self._one(
                "SELECT expired_at FROM segments WHERE video_no = ? AND segment = ?",
                (self._video(video_id), segment),
            )
            known = found is not None or self._expiries.includes(video_id, segment)
            self._expired[video_id, segment] = known
        return known

    # The video.

    def video_submitted(self, event: VideoSubmitted, position: int) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO videos(video_id, video_name, video_url, source_kind, submitted_at,"
            " submitted_position, commit_position) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            (
                event.video_id,
                event.video_name,
                event.video_url,
                event.source_kind,
                event.submitted_at,
                position,
            ),
        )
        self._videos.pop(event.video_id, None)

    def video_probed(self, event: VideoProbed, position: int) -> None:
        video_no = self._video(event.video_id)
        self._connection.execute(
            "UPDATE videos SET probe = ?, ingest_seconds = ?, frames_total = ?, commit_position = ? WHERE video_no = ?",
            (_json(_without_segments(event)), event.ingest_seconds, event.source.frames, position, video_no),
        )
        self._connection.execute(
            "UPDATE runs SET status = 'Processing' WHERE video_no = ? AND status = 'Pending'", (video_no,)
        )
        self._show_status(video_no, position)

    def segments_planned(self, event: SegmentsPlanned, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is not None:
            self._connection.executemany(
                "INSERT OR REPLACE INTO segments VALUES(?, ?, ?, ?, ?, ?, NULL, ?)",
                [
                    (
                        video_no,
                        plan.segment,
                        plan.first_frame,
                        plan.last_frame,
                        plan.start,
                        plan.end,
                        position,
                    )
                    for plan in event.segments
                ],
            )

    def source_ended(self, event: SourceEnded, position: int) -> None:
        self._connection.execute(
            "UPDATE videos SET frames_total = ?, commit_position = ? WHERE video_id = ?",
            (event.frames, position, event.video_id),
        )

    def stop_requested(self, event: StopRequested, position: int) -> None:
        self._connection.execute(
            "UPDATE videos SET stopping = 1, commit_position = ? WHERE video_id = ?",
            (position, event.video_id),
        )

    def stream_connected(self, event: StreamConnected, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is not None:
            add_connection(self._connection, video_no, event, position)

    def stream_disconnected(self, event: StreamDisconnected, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is not None:
            end_connection(self._connection, video_no, event, position)

    def video_deleted(self, event: VideoDeleted, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is None:
            return
        self._forget_parked(f"frames-{event.video_id}-*")
        for run_id, run_no in self._all_runs(video_no).items():
            self._delete_run(run_no)
            self._forget_parked(f"results-{run_id}-*")
        doom(self._connection, "frames", frame_id(video_no, 0), frame_id(video_no, MAX_FRAME_NUMBER))
        self.doomed = True
        for table in ("segment_sums", "segments", "connections", "videos"):
            self._connection.execute(f"DELETE FROM {table} WHERE video_no = ?", (video_no,))  # noqa: S608
        self._runs.clear()
        self._videos.clear()
        self._expired.clear()

    def _delete_run(self, run_no: int) -> None:
        first, last = result_id(run_no, 0, 0), result_id(run_no, MAX_FRAME_NUMBER, MODEL_MASK)
        doom(self._connection, "results", first, last)
        doom(self._connection, "dropped", first, last)
        for table in ("run_models", "run_segments", "run_sums", "model_sums", "runs"):
            self._connection.execute(f"DELETE FROM {table} WHERE run_no = ?", (run_no,))  # noqa: S608

    def _forget_parked(self, pattern: str) -> None:
        self._connection.execute("DELETE FROM parked WHERE stream_name GLOB ?", (pattern,))

    def segments_expired(self, event: SegmentsExpired, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is not None:
            expire(self._connection, video_no, self._all_runs(video_no), event, position)
            self.doomed = True
            self._expired.clear()

    def segments_purged(self, event: SegmentsPurged, position: int) -> None:
        """What came late to streams that had expired is gone, too."""
        video_no = self._video(event.video_id)
        if video_no is not None:
            forget_parked(self._connection, event.video_id, self._all_runs(video_no), event.segments)

    # Its runs.

    def run_requested(self, event: RunRequested, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is None:
            return
        probed = self._one("SELECT probe IS NOT NULL FROM videos WHERE video_no = ?", (video_no,))
        self._connection.execute(
            "INSERT OR IGNORE INTO runs(run_id, video_no, models, frame_step, max_height, jpeg_quality, infer_from,"
            " requested_at, status, commit_position) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (event.run_id, video_no, _json(event.models), event.frame_step, event.max_height, event.jpeg_quality,
             event.infer_from, event.requested_at, "Processing" if probed else "Pending", position),
        )  # fmt: skip
        self._runs.pop(event.run_id, None)
        self._connection.execute(
            "UPDATE videos SET first_run_no = (SELECT run_no FROM runs WHERE run_id = ?)"
            " WHERE video_no = ? AND first_run_no IS NULL",
            (event.run_id, video_no),
        )
        self._show_status(video_no, position)

    def run_completed(self, event: RunCompleted, position: int) -> None:
        self._connection.execute(
            "UPDATE runs SET coverage = ? WHERE run_id = ?", (event.coverage, event.run_id)
        )
        self._end_run(event.run_id, "Completed", None, event.completed_at, position)

    def run_failed(self, event: RunFailed, position: int) -> None:
        self._end_run(event.run_id, "Failed", event.error, event.failed_at, position)

    def run_cancelled(self, event: RunCancelled, position: int) -> None:
        reason = event.reason if event.reason.startswith("cancelled") else f"cancelled: {event.reason}"
        self._end_run(event.run_id, "Failed", reason, event.cancelled_at, position)

    def _end_run(self, run_id: str, status: str, error: str | None, at: float, position: int) -> None:
        self._connection.execute(
            "UPDATE runs SET status = ?, error = ?, ended_at = ?, commit_position = ? WHERE run_id = ?",
            (status, error, at, position, run_id),
        )
        run = self._run(run_id)
        if run is not None:
            end_with_run(self._connection, run.video_no, at, error, position)
            self._show_status(run.video_no, position)

    def _show_status(self, video_no: int | None, position: int) -> None:
        self._connection.execute(
            "UPDATE videos SET commit_position = ?2,"
            " status = coalesce((SELECT status FROM runs WHERE run_no = videos.first_run_no), status)"
            " WHERE video_no = ?1",
            (video_no, position),
        )

    # Segments of runs.

    def segment_claimed(self, event: SegmentClaimed, position: int) -> None:
        self._segment(event, "claimed", position, attempt=event.attempt)

    def segment_closed(self, event: SegmentClosed, position: int) -> None:
        self._segment(
            event, "closed", position, attempt=event.attempt, frames=event.frames, dropped=event.dropped
        )

    def segment_completed(self, event: SegmentCompleted, position: int) -> None:
        self._segment(event, "closed", position, frames=event.frames, dropped=event.dropped)

    def segment_failed(self, event: SegmentFailed, position: int) -> None:
        self._segment(event, "failed", position, attempt=event.attempt, reason=event.reason)

    def _segment(
        self,
        event: SegmentClaimed | SegmentClosed | SegmentCompleted | SegmentFailed,
        state: str,
        position: int,
        *,
        attempt: int | None = None,
        frames: int | None = None,
        dropped: int | None = None,
        reason: str | None = None,
    ) -> None:
        run = self._run(event.run_id)
        if run is not None and not self._has_expired(event.video_id, event.segment):
            self._sums.touch(run.video_no, event.segment, (), self._recorded_at, position)
            self._connection.execute(
                "INSERT INTO run_segments VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET state = excluded.state, attempt = coalesce(excluded.attempt, attempt),"
                " frames = excluded.frames, dropped = excluded.dropped, reason = excluded.reason,"
                " commit_position = excluded.commit_position",
                (run.run_no, event.segment, state, attempt, frames, dropped, reason, position),
            )

    # Frames and results.

    def frames_stored(self, event: FramesStored, position: int) -> None:
        video_no = self._video(event.video_id)
        if video_no is None or self._has_expired(event.video_id, event.segment):
            return
        before = self._connection.total_changes()
        self._connection.executemany(
            "INSERT OR IGNORE INTO frames VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (frame_id(video_no, frame.frame_number), frame.timestamp, event.pack, frame.offset, frame.length,
                 frame.width, frame.height, event.segment, position)
                for frame in event.frames
            ],
        )  # fmt: skip
        new = self._connection.total_changes() - before
        self._sums.stored(video_no, event, new, self._recorded_at, position)

    def frames_dropped(self, event: FramesDropped, position: int) -> None:
        run, numbers = self._run(event.run_id), event.frame_numbers
        if run is None or not numbers or self._has_expired(event.video_id, event.segment):
            return
        model_no = _ALL_MODELS if event.model is None else MODEL_NUMBERS[event.model]
        before = self._dropped_frames(run, min(numbers), max(numbers))
        self._connection.executemany(
            "INSERT OR IGNORE INTO dropped VALUES(?, ?, ?, ?, ?, ?)",
            [(run.run_no, n, model_no, event.segment, event.reason, position) for n in numbers],
        )
        new = self._dropped_frames(run, min(numbers), max(numbers)) - before
        self._sums.judged(run.run_no, event.segment, position, dropped=new)
        self._sums.touch(run.video_no, event.segment, numbers, self._recorded_at, position)

    def _dropped_frames(self, run: _Run, first: int, last: int) -> int:
        """How many frames between `first` and `last` the run has given up, for a model or for all."""
        sql = "SELECT count(DISTINCT frame_number) FROM dropped WHERE run_no = ? AND frame_number BETWEEN ? AND ?"
        return int(self._one(sql, (run.run_no, first, last)))

    def frames_analysed(self, event: FramesAnalysed, position: int) -> None:
        run = self._run(event.run_id)
        if run is None or not event.frames or self._has_expired(event.video_id, event.segment):
            return
        numbers = [frame.frame_number for frame in event.frames]
        whole = functools.partial(self._whole_frames, run, min(numbers), max(numbers))
        count_before, _ = whole()
        added = self._add_results(event, run, MODEL_NUMBERS[event.model.key], position)
        count, greatest = whole()
        new = count - count_before
        self._sums.judged(run.run_no, event.segment, position, frames=new, greatest=greatest)
        self._sums.modelled(run.run_no, event, added, position)
        self._sums.touch(run.video_no, event.segment, numbers, self._recorded_at, position)

    def _add_results(self, event: FramesAnalysed, run: _Run, model_no: int, position: int) -> int:
        """How many results are new."""
        key = MODEL_KEYS[model_no]
        row = RowRenderer(event.video_id, key, DEFAULT_THRESHOLDS[key]).row
        low = run.run_no << KEY_BITS | model_no
        before = self._connection.total_changes()
        self._connection.executemany(
            "INSERT OR IGNORE INTO results VALUES(?, ?, ?, ?, ?, ?, ?)",
            [
                (low | frame.frame_number << MODEL_BITS, frame.timestamp, frame.started_at, frame.seconds, position,
                 row(frame), encode_detections(frame.detections))
                for frame in event.frames
            ],
        )  # fmt: skip
        return self._connection.total_changes() - before

    def _whole_frames(self, run: _Run, first: int, last: int) -> tuple[int, int]:
        """How many frames between `first` and `last` have a result of every model, and the greatest (0: none)."""
        found: tuple[int, int] = self._one(
            "SELECT count(*), coalesce(max(frame), 0) FROM (SELECT id >> ? & ? AS frame FROM results"
            " WHERE id BETWEEN ? AND ? GROUP BY frame HAVING count(*) = ?)",
            (MODEL_BITS, (1 << FRAME_BITS) - 1, result_id(run.run_no, first, 0),
             result_id(run.run_no, last, MODEL_MASK), run.models),
        )  # fmt: skip
        return found


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _without_segments(event: VideoProbed) -> dict[str, Any]:
    """What users may know of a probe: no path of this machine, no long list."""
    source = msgspec.to_builtins(event.source)
    del source["segments"], source["pts_digest"]
    return {**source, "size_bytes": event.size_bytes, "transport": event.transport}


_HANDLERS: Final[dict[type[DomainEvent], Callable[[_Projector, Any, int], None]]] = {
    VideoSubmitted: _Projector.video_submitted,
    VideoProbed: _Projector.video_probed,
    SegmentsPlanned: _Projector.segments_planned,
    SourceEnded: _Projector.source_ended,
    StopRequested: _Projector.stop_requested,
    StreamConnected: _Projector.stream_connected,
    StreamDisconnected: _Projector.stream_disconnected,
    SegmentsExpired: _Projector.segments_expired,
    SegmentsPurged: _Projector.segments_purged,
    VideoDeleted: _Projector.video_deleted,
    RunRequested: _Projector.run_requested,
    RunCompleted: _Projector.run_completed,
    RunFailed: _Projector.run_failed,
    RunCancelled: _Projector.run_cancelled,
    SegmentClaimed: _Projector.segment_claimed,
    SegmentClosed: _Projector.segment_closed,
    SegmentCompleted: _Projector.segment_completed,
    SegmentFailed: _Projector.segment_failed,
    FramesStored: _Projector.frames_stored,
    FramesDropped: _Projector.frames_dropped,
    FramesAnalysed: _Projector.frames_analysed,
}
