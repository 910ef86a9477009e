"""Where the stored frames lie."""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from monolith.domain.errors import FrameExpiredError, FrameNotSampledError
from monolith.readmodels.schema import FRAME_BITS, MAX_FRAME_NUMBER, frame_id

_NUMBER_MASK: Final = (1 << FRAME_BITS) - 1


class FrameLocation(msgspec.Struct, frozen=True, kw_only=True):
    """A stored JPEG: `length` bytes from `offset` of the video's pack `pack`; times in seconds, size in pixels."""

    frame_number: int
    timestamp: float
    pack: str
    offset: int
    length: int
    width: int
    height: int
    segment: int


def find_frame(connection: apsw.Connection, video_no: int, frame_number: int) -> FrameLocation:
    """Raises FrameExpiredError, and FrameNotSampledError, which names the neighbours."""
    row = connection.execute(
        "SELECT timestamp, pack, offset, length, width, height, segment FROM frames WHERE id = ?",
        (frame_id(video_no, frame_number),),
    ).fetchone()
    if row is None:
        planned = _segment_of(connection, video_no, frame_number)
        if planned is not None:
            _check_expired(connection, video_no, planned, frame_number)
        raise FrameNotSampledError(frame_number, *_neighbours(connection, video_no, frame_number))
    timestamp, pack, offset, length, width, height, segment = row
    _check_expired(connection, video_no, segment, frame_number)  # the row is on its way out
    return FrameLocation(
        frame_number=frame_number, timestamp=timestamp, pack=pack, offset=offset, length=length,
        width=width, height=height, segment=segment,
    )  # fmt: skip


def _check_expired(connection: apsw.Connection, video_no: int, segment: int, number: int) -> None:
    expired_at = connection.execute(
        "SELECT expired_at FROM segments WHERE video_no = ? AND segment = ?", (video_no, segment)
    ).get
    if expired_at is not None:
        raise FrameExpiredError(number, segment, expired_at)


def _segment_of(connection: apsw.Connection, video_no: int, number: int) -> int | None:
    """The segment that holds the frame, by the plan: the last that begins at or before it, unless it ends before it."""
    found: tuple[int, int] | None = connection.execute(
        "SELECT plan.segment, coalesce(plan.last_frame, sums.last_frame, 0) FROM segments AS plan"
        " LEFT JOIN segment_sums AS sums USING (video_no, segment)"
        " WHERE video_no = ? AND plan.first_frame <= ? ORDER BY plan.segment DESC LIMIT 1",
        (video_no, number),
    ).fetchone()
    return found[0] if found is not None and number <= found[1] else None


def _neighbours(connection: apsw.Connection, video_no: int, number: int) -> tuple[int | None, int | None]:
    before = connection.execute(
        "SELECT max(id) FROM frames WHERE id BETWEEN ? AND ?",
        (frame_id(video_no, 0), frame_id(video_no, number)),
    ).get
    after = connection.execute(
        "SELECT min(id) FROM frames WHERE id BETWEEN ? AND ?",
        (frame_id(video_no, number), frame_id(video_no, MAX_FRAME_NUMBER)),
    ).get
    return _number(before), _number(after)


def _number(found: int | None) -> int | None:
    return None if found is None else found & _NUMBER_MASK
