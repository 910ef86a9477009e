"""A segment: a bounded, ordered piece of a video; the unit of work, recovery, parallelism and retention."""

from __future__ import annotations

import msgspec

from monolith.domain.models import ModelIdentity


class SegmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Frames `first_frame`…`last_frame` (inclusive, counted from 1 over the whole video; last None: to the end of a
    sequential source). `start`, `end`: seconds of media from the first picture, None where unknown."""

    segment: int
    first_frame: int
    last_frame: int | None
    start: float | None = None
    end: float | None = None


class SourceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe and a packet scan found.

    `indexed`: frame_number = rank of the pts, segments may run in parallel; otherwise frames are numbered as they
    are decoded and segments run one after another. `width`, `height`: pixels, upright (after `rotation`, degrees
    clockwise to apply: 0, 90, 180, 270). `duration` in seconds, `frame_rate` per second (average), `frames`: pictures
    by the scan (None: not known before decoding). `pts_digest`: sha256 of the sorted pts table. `truncated`: why the
    file is thought to be cut short, else None. `live`: pictures come as they happen; what is missed is gone.
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
    pts_digest: str | None
    truncated: str | None
    segments: tuple[SegmentPlan, ...]
    warnings: tuple[str, ...] = ()
    live: bool = False


class StoredFrame(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A sampled picture in a frame pack: `length` bytes of JPEG from `offset`; `timestamp` in seconds from the source's
    time base (pts × time_base, the first picture's pts taken as it is; in a sequential source breaks are closed);
    width and height in pixels as stored."""

    frame_number: int
    timestamp: float
    offset: int
    length: int
    width: int
    height: int


class SourcePosition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a picture of a live HLS source is: in the media segment with number `sequence` and a file whose name has
    the digest `name`, at `timestamp` seconds of the source's own time (None: the source does not say)."""

    sequence: int
    name: str
    timestamp: float | None


class ExpiredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What one model did in an expired segment: frames with its results, the sum of its inference times."""

    model: ModelIdentity
    frames: int
    nanoseconds: int


class ExpiredRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did in an expired segment.

    `frames`: with results of every model of the run; `dropped`: sampled frames that it gave up; `greatest_frame`: the
    greatest of `frames` (0: none). `attempt`: the last one (0: never claimed); `closed`: it was done with; `failed`: it
    was not, and an attempt had failed.
    """

    run_id: str
    attempt: int
    closed: bool
    failed: bool = False
    frames: int
    dropped: int
    greatest_frame: int
    models: tuple[ExpiredModel, ...]


class ExpiredSegment(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of a segment that outlive it. Times are whole nanoseconds, so that sums do not depend on their order.

    `first_frame`, `last_frame`: the least and the greatest frame number that was stored, judged or dropped (None: there
    was none). `last_event_at`: Unix seconds of the newest event of the segment.
    """

    segment: int
    first_frame: int | None
    last_frame: int | None
    frames_stored: int
    decode_nanoseconds: int
    resize_nanoseconds: int
    encode_nanoseconds: int
    last_event_at: float
    runs: tuple[ExpiredRun, ...]


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds, the nearest."""
    return round(seconds * 1e9)
