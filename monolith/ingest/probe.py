"""What a local video file is: container, codec, size, numbering, segments, and whether it was cut short."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.video.frame import VideoFrame

from monolith.domain.segment import SegmentPlan, SourceInfo
from monolith.ingest.errors import SourceError
from monolith.ingest.media import READ_AS_IT_ARRIVES, inputs_of_file
from monolith.ingest.picture import Orientation, orientation_of
from monolith.ingest.reader import LIMITS, Limits, OpenVideo, check_dimensions, open_video
from monolith.ingest.scan import PacketScan, digest_of, joined, save_table, scan_packets, seconds
from monolith.ingest.segments import plan_indexed, plan_sequential
from monolith.ingest.unreadable import announced_size

_MICROSECOND: Final = Fraction(1, 1_000_000)
_SLOWEST: Final = 1.0
_FASTEST: Final = 240.0
"""Frame rates of a sequential source outside this range come from broken timestamps."""
_SHORT_BY_PART: Final = 0.05
_SHORT_BY_SECONDS: Final = 2.0


def probe_file(
    path: Path,
    scan_path: Path,
    segment_seconds: float,
    *,
    limits: Limits = LIMITS,
    progress: Callable[[], None] = lambda: None,
) -> SourceInfo:
    """Scan all packets of `path`, decode its first picture, plan segments of about `segment_seconds`.

    Indexed sources leave their pts table at `scan_path` (atomically). Raises SourceError, OSError for `scan_path`.
    """
    with open_video(path, limits) as video:
        scan = _scan(path, video, progress)
        if not scan.packets:
            raise SourceError(_no_pictures(path, video))
        first = first_picture(path, limits)
        if scan.pts is not None:
            save_table(scan_path, scan.pts)
        return _describe(path, video, scan, first, segment_seconds)


def _scan(path: Path, video: OpenVideo, progress: Callable[[], None]) -> PacketScan:
    """Of `video`, which is what is first in `path`, and of what comes after it where it changes. What cannot be read
    then is a failure of the segment that comes to it, not of the file."""
    if video.container.format.name not in READ_AS_IT_ARRIVES:
        return scan_packets(video, progress)
    scans: list[PacketScan] = []
    try:
        for part in inputs_of_file(path):
            scans.append(scan_packets(part, progress))
            video.damaged, video.last_error = (
                video.damaged + part.damaged,
                part.last_error or video.last_error,
            )
    except SourceError as error:
        if not scans:
            raise
        video.damage(error)
    return joined(scans)


def first_picture(path: Path, limits: Limits = LIMITS) -> VideoFrame:
    """The first picture that can be decoded. Raises SourceError where none can."""
    with open_video(path, limits) as video:
        for picture in video.pictures():
            check_dimensions(picture.width, picture.height, limits)
            return picture
        raise SourceError(
            f"no picture of the {video.stream.codec_context.name} video could be decoded"
            f" ({video.damaged} damaged packets; {video.last_error or 'no error was named'}): the file is damaged"
        )


def _no_pictures(path: Path, video: OpenVideo) -> str:
    cut = truncation(path, video, None)
    return "the video stream holds no frames: " + (cut or "submit a file with at least one picture")


def _describe(
    path: Path, video: OpenVideo, scan: PacketScan, first: VideoFrame, segment_seconds: float
) -> SourceInfo:
    stream, time_base = video.stream, video.stream.time_base or Fraction(1)
    orientation = orientation_of(first)
    width, height = (first.height, first.width) if orientation.lies_on_side else (first.width, first.height)
    duration = None if scan.span is None else seconds(scan.span, time_base)
    rate = _frame_rate(video, scan, duration)
    return SourceInfo(
        container=video.container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        rotation=orientation.quarter_turns * 90,
        duration=duration,
        frame_rate=rate,
        frames=None if scan.pts is None else len(scan.pts),
        indexed=scan.pts is not None,
        pts_digest=None if scan.pts is None else digest_of(scan.pts),
        truncated=truncation(path, video, duration),
        segments=_plan(scan, time_base, rate, duration, segment_seconds),
        warnings=_warnings(video, scan, orientation),
    )


def _frame_rate(video: OpenVideo, scan: PacketScan, duration: float | None) -> float | None:
    """Pictures per second on average; where timestamps are missing or jump, what the stream says."""
    if scan.pts is not None:
        return scan.packets / duration if duration else None
    counted = scan.packets / duration if duration else 0.0
    said = float(video.stream.average_rate or 0)
    return next((rate for rate in (counted, said) if _SLOWEST <= rate <= _FASTEST), None)


def _plan(
    scan: PacketScan, time_base: Fraction, rate: float | None, duration: float | None, segment_seconds: float
) -> tuple[SegmentPlan, ...]:
    if scan.pts is not None:
        return plan_indexed(scan.pts, scan.keyframes, time_base, segment_seconds)
    return plan_sequential(scan.packets, rate, duration, segment_seconds)


def _warnings(video: OpenVideo, scan: PacketScan, orientation: Orientation) -> tuple[str, ...]:
    found = []
    if scan.why_sequential:
        found.append(f"frames are numbered as they are decoded: {scan.why_sequential}")
    if (ratio := video.stream.sample_aspect_ratio) and ratio != 1:
        found.append(f"pixels are not square ({ratio}): pictures are kept as they are stored, not stretched")
    if orientation.mirrored:
        found.append("the file asks for a mirrored picture: it is mirrored before analysis")
    if video.damaged:
        found.append(f"{video.damaged} packets could not be read: {video.last_error}")
    return tuple(found)


def truncation(path: Path, video: OpenVideo, duration: float | None) -> str | None:
    """Why the file is thought to be cut short, with numbers; None when it seems whole.

    By bytes where its structure announces them, else by a duration in its header that the packets fall short of
    by more than 2 s and 5 %.
    """
    if (sizes := announced_size(path)) is not None:
        return f"the file announces {sizes[0]} bytes and has {sizes[1]}: it was cut short"
    announced = video.container.duration
    if announced is None or duration is None or _has_other_streams(video):
        return None
    promised = float(announced * _MICROSECOND)
    if promised - duration > max(_SHORT_BY_SECONDS, promised * _SHORT_BY_PART):
        return f"the file announces {promised:.1f} s and has pictures for {duration:.1f} s: it was cut short"
    return None


def _has_other_streams(video: OpenVideo) -> bool:
    """Sound may go on after the last picture: then a longer duration means nothing."""
    return len(video.container.streams) > 1
