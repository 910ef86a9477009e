"""Live packets as Matroska (RFC 9559), without an end: what a decoder process reads.

Own code because FFmpeg's muxer holds each packet back until the next one comes, a whole picture's time.
"""

from __future__ import annotations

from typing import Final

from monolith.live.packets import CLOCK_RATE, Codec, LivePacket, VideoFormat

_CODEC_IDS: Final[dict[Codec, bytes]] = {
    "h264": b"V_MPEG4/ISO/AVC",
    "hevc": b"V_MPEGH/ISO/HEVC",
    "av1": b"V_AV1",
    "vp8": b"V_VP8",
    "vp9": b"V_VP9",
}
_UNKNOWN_SIZE: Final = b"\x01" + b"\xff" * 7
_TRACK: Final = 1
_KEYFRAME: Final = 0x80
_SIDE: Final = 16
"""Width and height that the header claims: the true ones are in the pictures, and may change."""


def header(video: VideoFormat) -> bytes:
    """What comes before the first packet; times count milliseconds."""
    ebml = _element(0x1A45DFA3, _element(0x4282, b"matroska") + _number(0x4287, 4) + _number(0x4285, 2))
    pictures = _number(0xB0, _SIDE) + _number(0xBA, _SIDE)
    track = (
        _number(0xD7, _TRACK)
        + _number(0x73C5, _TRACK)
        + _number(0x83, 1)
        + _element(0x86, _CODEC_IDS[video.codec])
        + (_element(0x63A2, video.configuration) if video.configuration else b"")
        + _element(0xE0, pictures)
    )
    scale = _element(
        0x1549A966, _number(0x2AD7B1, 1_000_000) + _element(0x4D80, b"-") + _element(0x5741, b"-")
    )
    return ebml + _id(0x18538067) + _UNKNOWN_SIZE + scale + _element(0x1654AE6B, _element(0xAE, track))


def block(packet: LivePacket) -> bytes:
    """One packet, in a cluster of its own: complete as soon as it is read. Negative times become 0."""
    milliseconds = max(0, packet.pts * 1000 // CLOCK_RATE)
    flags = _KEYFRAME if packet.keyframe else 0
    simple = bytes((0x80 | _TRACK, 0, 0, flags)) + packet.data
    return _element(0x1F43B675, _number(0xE7, milliseconds) + _element(0xA3, simple))


def _element(number: int, content: bytes) -> bytes:
    return _id(number) + (0x01 << 56 | len(content)).to_bytes(8) + content


def _number(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(8))


def _id(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
