"""Expired segments: which there are, and what SegmentsExpired does to the rows.

Events of a segment that has expired (or, where a rebuild knows it beforehand, is going to) change nothing: most of them
are purged, and what is made of the others must not depend on when that happens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import apsw
import msgspec

from eventsourcing.errors import EventStoreError, StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore
from monolith.domain.events import SegmentsExpired, frames_stream, results_stream
from monolith.domain.growing import Numbers
from monolith.domain.segment import ExpiredSegment
from monolith.readmodels.cleaning import doom
from monolith.readmodels.schema import MODEL_MASK, frame_id, result_id
from monolith.readmodels.sums import Sums

_PAGE: Final = 1000

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """What is needed of the event codec."""

    def decode(self, recorded: RecordedEvent, /) -> msgspec.Struct: ...


class Expiries:
    """Segments that have expired, by video."""

    def __init__(self) -> None:
        self._segments: dict[str, Numbers] = {}

    def add(self, event: SegmentsExpired) -> None:
        numbers = self._segments.get(event.video_id, Numbers())
        self._segments[event.video_id] = numbers.plus(one.segment for one in event.segments)

    def includes(self, video_id: str, segment: int) -> bool:
        return segment in self._segments.get(video_id, ())

    def __len__(self) -> int:
        """How many segments."""
        return sum(map(len, self._segments.values()))


async def load_expiries(store: EventStore, decoder: Decoder, *, after: int | None = None) -> Expiries:
    """All that expired behind commit position `after`. Events that cannot be decoded are left to whoever projects."""
    expiries = Expiries()
    while events := await store.read_all(after=after, prefixes=("video-",), limit=_PAGE):
        for event in _decoded(events, decoder):
            expiries.add(event)
        after = events[-1].commit_position
    return expiries


def _decoded(events: Iterable[RecordedEvent], decoder: Decoder) -> Iterator[SegmentsExpired]:
    for recorded in events:
        if recorded.event_type != SegmentsExpired.__name__:
            continue
        try:
            event = decoder.decode(recorded)
        except StoreUnavailableError:
            raise
        except EventStoreError:
            logger.warning("an expiry cannot be decoded", exc_info=True)
            continue
        assert isinstance(event, SegmentsExpired)
        yield event


def expire(
    connection: apsw.Connection, video_no: int, runs: dict[str, int], event: SegmentsExpired, position: int
) -> None:
    """Replace what is known of the segments by the event's sums, and leave their rows to the cleaner.

    `runs`: run_id → run_no, of all runs of the video.
    """
    sums = Sums(connection)
    for first, last in _merged((one.segment, _frame_range(sums, video_no, one)) for one in event.segments):
        doom(connection, "frames", frame_id(video_no, first), frame_id(video_no, last))
        for run_no in runs.values():
            low, high = result_id(run_no, first, 0), result_id(run_no, last, MODEL_MASK)
            doom(connection, "results", low, high)
            doom(connection, "dropped", low, high)
    for one in event.segments:
        sums.replace(video_no, runs, one, position)
    connection.executemany(
        "UPDATE segments SET expired_at = ?, commit_position = ? WHERE video_no = ? AND segment = ?",
        [(event.expired_at, position, video_no, one.segment) for one in event.segments],
    )
    sums.add_up(video_no, runs.values(), position)
    forget_parked(connection, event.video_id, runs, (one.segment for one in event.segments))


def forget_parked(
    connection: apsw.Connection, video_id: str, runs: Iterable[str], segments: Iterable[int]
) -> None:
    """Parked events of these segments' streams will never be asked for again."""
    if connection.execute("SELECT 1 FROM parked LIMIT 1").get is None:
        return
    run_ids = list(runs)
    for segment in segments:
        names = [frames_stream(video_id, segment), *(results_stream(run_id, segment) for run_id in run_ids)]
        connection.executemany("DELETE FROM parked WHERE stream_name = ?", [(name,) for name in names])


def _frame_range(sums: Sums, video_no: int, expired: ExpiredSegment) -> tuple[int, int] | None:
    """What was projected of the segment, and what is said of it, lies between these frame numbers."""
    seen = sums.frame_range(video_no, expired.segment)
    if expired.first_frame is None or expired.last_frame is None:
        return seen
    if seen is None:
        return expired.first_frame, expired.last_frame
    return min(seen[0], expired.first_frame), max(seen[1], expired.last_frame)


def _merged(ranges: Iterable[tuple[int, tuple[int, int] | None]]) -> list[tuple[int, int]]:
    """Frame ranges by segment, those of neighbouring segments as one: between them lies no frame of another."""
    merged: list[tuple[int, int]] = []
    before: int | None = None
    for segment, found in sorted(ranges):
        if found is not None and merged and before == segment - 1:
            merged[-1] = min(merged[-1][0], found[0]), max(merged[-1][1], found[1])
        elif found is not None:
            merged.append(found)
        before = segment
    return merged
