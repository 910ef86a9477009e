"""Where the stored frames lie."""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from monolith.domain.errors import FrameNotSampledError
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
    """Raises FrameNotSampledError, which names the neighbours."""
    row = connection.execute(
        "SELECT timestamp, pack, offset, length, width, height, segment FROM frames WHERE id = ?",
        (frame_id(video_no, frame_number),),
    ).fetchone()
    if row is None:
        raise FrameNotSampledError(frame_number, *_neighbours(connection, video_no, frame_number))
    timestamp, pack, offset, length, width, height, segment = row
    return FrameLocation(
        frame_number=frame_number, timestamp=timestamp, pack=pack, offset=offset, length=length,
        width=width, height=height, segment=segment,
    )  # fmt: skip


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
