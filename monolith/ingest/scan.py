"""The packet scan: which pictures a file presents and when, by demuxing alone; and the table that it leaves.

Where every picture has its own timestamp, `frame_number` is the rank of its pts (from 1), so that a packet that
cannot be decoded makes a gap and shifts nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from av.container.core import Flags

from monolith.frames.pack import sync_folder
from monolith.ingest.reader import OpenVideo

PtsTable = npt.NDArray[np.int64]
"""Presentation timestamps in units of the stream's time base, strictly ascending."""

_INDEXED_DEMUXERS: Final = {"mov", "matroska"}
_PACKETS_A_PROGRESS: Final = 2000


@dataclass(frozen=True)
class PacketScan:
    """What the packets say.

    `pts`: the table, None where pictures cannot be told apart by pts (a sequential source, `why_sequential` says
    so). `keyframes`: pts of keyframes, ascending. `packets`: pictures that should come out. `span`: time base units
    from the first picture to the end of the last, None where fewer than two pictures have timestamps.
    """

    pts: PtsTable | None
    keyframes: PtsTable
    packets: int
    span: int | None
    why_sequential: str | None


def scan_packets(video: OpenVideo, progress: Callable[[], None] = lambda: None) -> PacketScan:
    """Demux the rest of `video`. Reads the whole file; `progress` is called now and then."""
    pts: list[int] = []
    keyframes: list[int] = []
    packets = 0
    video.container.flags &= ~cast(int, Flags.gen_pts.value)  # timestamps as the file has them
    is_vp8 = video.stream.codec_context.name in {"vp8", "libvpx"}
    for packet in video.packets():
        if not packet.size or packet.is_discard or (is_vp8 and not _vp8_shown(bytes(packet))):
            continue
        packets += 1
        if packets % _PACKETS_A_PROGRESS == 0:
            progress()
        if packet.pts is None:
            continue
        pts.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
    table = np.unique(np.array(pts, np.int64))
    why = _why_sequential(video, packets, len(pts), len(table))
    return PacketScan(
        pts=None if why else table,
        keyframes=np.unique(np.array(keyframes, np.int64)),
        packets=packets,
        span=_span(table),
        why_sequential=why,
    )


def joined(scans: Sequence[PacketScan]) -> PacketScan:
    """Of the parts of a sequential source, in the time base of all of them, as one."""
    spans = [scan.span for scan in scans if scan.span is not None]
    return PacketScan(
        pts=None,
        keyframes=np.concatenate([scan.keyframes for scan in scans]),
        packets=sum(scan.packets for scan in scans),
        span=sum(spans) if spans else None,
        why_sequential=scans[0].why_sequential,
    )


def _span(table: PtsTable) -> int | None:
    """The last picture lasts as long as the average one: what files say of its duration is often nonsense."""
    if len(table) < 2:
        return None
    return round(int(table[-1] - table[0]) * len(table) / (len(table) - 1))


def _vp8_shown(data: bytes) -> bool:
    """RFC 6386, 9.1: bit 4 of the first byte is `show_frame`; alternate reference frames are never shown."""
    return bool(data[0] & 0x10)


def _why_sequential(video: OpenVideo, packets: int, with_pts: int, unique: int) -> str | None:
    if not _INDEXED_DEMUXERS & set(video.container.format.name.split(",")):
        return f"{video.container.format.name} files have no timestamps that could be relied on"
    if with_pts < packets:
        return f"{packets - with_pts} of {packets} packets have no timestamp"
    if unique < packets:
        return f"{packets - unique} of {packets} packets repeat a timestamp"
    return None


def seconds(units: int, time_base: Fraction) -> float:
    """Time base units → seconds."""
    return float(units * time_base)


def digest_of(table: PtsTable) -> str:
    """sha256 over the table as little-endian int64."""
    return hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()


def save_table(path: Path, table: PtsTable) -> None:
    """Write `table` as .npy; the file appears whole or not at all, and survives a power cut."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, table.astype("<i8"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def load_table(path: Path) -> PtsTable | None:
    """The stored table; None where there is none, or it is no such table (then scan again)."""
    try:
        table: PtsTable = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if table.dtype != np.dtype("<i8") or table.ndim != 1 or bool((np.diff(table) <= 0).any()):
        return None
    return table
