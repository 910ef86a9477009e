"""How the pictures behind an http(s) URL have to be taken: told by the first bytes of the answer and its length."""

from __future__ import annotations

from typing import Final

from monolith.domain.events import Transport

HEAD_BYTES: Final = 4096
"""So many bytes, if there are so many, decide."""

_TS_SYNC: Final = 0x47
_TS_LAYOUTS: Final = ((0, 188), (4, 192), (0, 204))
"""(first sync byte, size of a packet): plain, with a time code before it (M2TS), with error correction behind it."""
_INDEX_FREE: Final = (
    b"FLV\x01",
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG-PS
    b"\x00\x00\x01\xb3",  # MPEG-1/2 video
    b"\x00\x00\x00\x01",  # H.264, HEVC
    b"\x00\x00\x01\x09",
    b"\x00\x00\x01\x67",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"\xff\xd8\xff",  # MJPEG
    b"YUV4MPEG2",
)
"""How containers begin that can be read from their start on, without an end or an index."""


def transport_for(head: bytes, length: int | None, content_type: str | None) -> Transport:
    """`head`: the first bytes of the body; `length`: bytes of all of it, None where the answer has no known end."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"#EXTM3U"):
        return "hls"
    if _is_transport_stream(head) or head.startswith(b"FLV\x01"):
        return "http"
    if length is not None:
        return "file"
    if is_multipart(content_type) or head.startswith(_INDEX_FREE) or _index_comes_first(head):
        return "http"
    return "file"


def is_multipart(content_type: str | None) -> bool:
    """JPEGs one after another, as many cameras send them."""
    return (content_type or "").lower().startswith("multipart/x-mixed-replace")


def _is_transport_stream(head: bytes) -> bool:
    """Sync bytes where packets begin: all that the head has room for, three at least (two prove little)."""
    return any(
        len(head) > first + 2 * size and all(head[at] == _TS_SYNC for at in range(first, len(head), size))
        for first, size in _TS_LAYOUTS
    )


def _index_comes_first(head: bytes) -> bool:
    """Of an MP4: `moov` stands before `mdat` (as in every fragmented one)."""
    at = 0
    while at + 8 <= len(head):
        size, kind = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8]
        if at == 0 and kind not in (b"ftyp", b"styp"):
            return False
        if kind in (b"moov", b"mdat"):
            return kind == b"moov"
        if size < 8:
            return False
        at += size
    return False
