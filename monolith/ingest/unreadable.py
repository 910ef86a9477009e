"""What is wrong with a file that no demuxer takes, or that ends before it says it does: read from its first bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_HEAD_BYTES: Final = 4096
_MAX_BOXES: Final = 100_000
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_LISTS: Final = {
    b"#EXTM3U": "an HLS playlist: submit the address of the playlist, or the video it names",
    b"ffconcat": "a list of files: submit the video itself",
    b"<MPD": "a DASH manifest: submit the video it names",
}
_TOP_BOXES: Final = frozenset(
    {
        b"ftyp",
        b"moov",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"moof",
        b"styp",
        b"sidx",
        b"uuid",
        b"pnot",
        b"mfra",
    }
)


class Box(NamedTuple):
    """A top-level box of an MP4 or MOV file: where it starts and ends (bytes) by its own account."""

    kind: bytes
    start: int
    end: int


def explain_unreadable(path: Path, containers: str) -> str:
    """Why `path` cannot be opened as a video, in one sentence for users, and what would be right."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            boxes = list(mp4_boxes(file, size))
    except OSError as error:
        return f"the video file cannot be read: {error.strerror}"
    if not head:
        return "the file is empty: submit a file with a video in it"
    for mark, words in _LISTS.items():
        if mark in head[:512]:
            return f"the file is not a video but {words}"
    if boxes and not any(box.kind == b"moov" for box in boxes):
        return (
            "the MP4 file has no moov atom (its table of contents): the recording or the transfer was cut short;"
            " submit the whole file"
        )
    if _is_text(head):
        return f"the file is text, not a video: submit one of {containers}"
    return f"the file is not a video that can be read, or is damaged at its start: submit one of {containers}"


def mp4_boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """Top-level boxes; none where the file is no MP4. The last one may end beyond `size`."""
    offset = 0
    for _ in range(_MAX_BOXES):
        file.seek(offset)
        header = file.read(16)
        if len(header) < 8:
            return
        length, kind = struct.unpack_from(">I4s", header)
        if kind not in _TOP_BOXES and (offset == 0 or not kind.isalnum()):
            return
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
        end = size if length == 0 else offset + length
        if end <= offset:
            return
        yield Box(kind, offset, end)
        if end >= size:
            return
        offset = end


def announced_size(path: Path) -> tuple[int, int] | None:
    """(bytes that the file's structure announces, bytes that it has) where it has fewer; else None.

    Knows MP4/MOV boxes, the Segment of MKV/WebM, and RIFF (AVI).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        announced = _announced(file, size)
    return (announced, size) if announced > size else None


def _announced(file: BinaryIO, size: int) -> int:
    head = file.read(_HEAD_BYTES)
    if head.startswith(_EBML):
        return _matroska_end(head)
    if head.startswith(b"RIFF") and len(head) >= 8:
        return 8 + int(struct.unpack_from("<I", head, 4)[0])
    return max((box.end for box in mp4_boxes(file, size)), default=0)


def _matroska_end(head: bytes) -> int:
    """End of the Segment element (RFC 8794: a length of all ones means unknown); 0 where unknown."""
    at = head.find(_SEGMENT)
    if at < 0 or at + 4 >= len(head) or head[at + 4] == 0:
        return 0
    width = 9 - head[at + 4].bit_length()
    raw = head[at + 4 : at + 4 + width]
    if len(raw) < width:
        return 0
    ones = (1 << (7 * width)) - 1
    length = int.from_bytes(raw, "big") & ones
    return 0 if length == ones else at + 4 + width + length


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in text)
