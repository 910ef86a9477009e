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
from monolith.readmodels import projected_frames, projected_runs, projected_videos
from monolith.readmodels.database import Database
from monolith.readmodels.expiries import Expiries
from monolith.readmodels.projected_rows import Rows

PROJECTION_NAME: Final = "read-models"
PREFIXES: Final = ("video-", "frames-", "results-")

_CACHED: Final = 10_000
_LONGEST_ERROR: Final = 2000


class EventDecoder(Protocol):
    """What the projection needs of the event codec."""

    def decode(self, recorded: RecordedEvent, /) -> msgspec.Struct: ...


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
    rows = Rows(connection, expiries)
    last = None
    for event in events:
        if done is None or event.commit_position > done:
            _project(codec.decode(event), event, rows)
            last = event.commit_position
    if last is not None:
        _advance(connection, last)
    return _Done(_count_parked(connection), rows.doomed)


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


def _project(event: Any, recorded: RecordedEvent, rows: Rows) -> None:
    """Change the rows as `event` says; events of other types change nothing."""
    handler = _HANDLERS.get(type(event))
    if handler is not None:
        rows.recorded_at = recorded.recorded_at
        handler(rows, event, recorded.commit_position)


_HANDLERS: Final[dict[type[DomainEvent], Callable[[Rows, Any, int], None]]] = {
    VideoSubmitted: projected_videos.video_submitted,
    VideoProbed: projected_videos.video_probed,
    SegmentsPlanned: projected_videos.segments_planned,
    SourceEnded: projected_videos.source_ended,
    StopRequested: projected_videos.stop_requested,
    StreamConnected: projected_videos.stream_connected,
    StreamDisconnected: projected_videos.stream_disconnected,
    SegmentsExpired: projected_videos.segments_expired,
    SegmentsPurged: projected_videos.segments_purged,
    VideoDeleted: projected_videos.video_deleted,
    RunRequested: projected_runs.run_requested,
    RunCompleted: projected_runs.run_completed,
    RunFailed: projected_runs.run_failed,
    RunCancelled: projected_runs.run_cancelled,
    SegmentClaimed: projected_runs.segment_claimed,
    SegmentClosed: projected_runs.segment_closed,
    SegmentCompleted: projected_runs.segment_completed,
    SegmentFailed: projected_runs.segment_failed,
    FramesStored: projected_frames.frames_stored,
    FramesDropped: projected_frames.frames_dropped,
    FramesAnalysed: projected_frames.frames_analysed,
}
