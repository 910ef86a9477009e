"""Video tags of FLV, as RTMP carries them: H.264 in the old way, and by enhanced RTMP also HEVC, AV1, VP9, VP8.

Sources: Adobe, "Video File Format Specification" 10.1, E.4.3; Veovera, "Enhanced RTMP" version 2, "Enhanced Video".
Of several tracks the one with id 0 is taken, which is also that of tags that name none: it is the default one.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from monolith.protocols.errors import ProtocolError, UnsupportedError

Codec: TypeAlias = Literal["h264", "hevc", "av1", "vp9", "vp8"]
"""By FFmpeg's names of codecs (its decoder for AV1 in software is `libdav1d`)."""

FOURCC: Final[dict[str, Codec]] = {
    "avc1": "h264",
    "hvc1": "hevc",
    "av01": "av1",
    "vp09": "vp9",
    "vp08": "vp8",
}

HEADER: Final = b"FLV\x01\x01\0\0\0\x09\0\0\0\0"
"""How a file begins that has pictures and no sound."""

_VIDEO_TAG: Final = 9
_KEYFRAME: Final = 1
_COMMAND_FRAME: Final = 5

_AVC: Final = 7
_OLD_CODECS: Final = {
    1: "JPEG",
    2: "Sorenson H.263",
    3: "screen video",
    4: "VP6",
    5: "VP6 with alpha",
    6: "screen video 2",
}

_ENHANCED: Final = 0x80
_SEQUENCE_START: Final = 0
_CODED_FRAMES: Final = 1
_CODED_FRAMES_X: Final = 3
_METADATA: Final = 4
_MULTITRACK: Final = 6
_MODEX: Final = 7
_MOST_MODEX: Final = 16
_MOST_TRACKS: Final = 256
_ONE_TRACK: Final = 0
_MANY_CODECS: Final = 2
_COMPOSED: Final = frozenset({"h264", "hevc"})
"""Codecs whose CodedFrames carry a composition time."""


class VideoConfig(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a decoder needs before the first frame. `extradata`: the configuration record (avcC, hvcC, av1C, vpcC)."""

    codec: Codec
    extradata: bytes


class VideoFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One coded picture, shown at `dts_ms + composition_ms`. `data` is in the codec's format in MP4: NAL units with
    their lengths for H.264 and HEVC."""

    codec: Codec
    keyframe: bool
    dts_ms: int
    composition_ms: int
    data: bytes


Video: TypeAlias = VideoConfig | VideoFrame | None


def video_tag(data: bytes, timestamp_ms: int) -> bytes:
    """A whole tag of an FLV file for a video message's body: what a demuxer reads behind `HEADER`. The file's
    timestamps have 32 bits."""
    stamp = (timestamp_ms & 0xFFFFFFFF).to_bytes(4, "big")
    size = len(data).to_bytes(3, "big")
    head = bytes([_VIDEO_TAG]) + size + stamp[1:] + stamp[:1] + bytes(3)
    return head + data + (len(head) + len(data)).to_bytes(4, "big")


def parse_video(data: bytes, timestamp_ms: int) -> Video:
    """The meaning of a video message's body; None for what carries no picture (metadata, the end of a sequence,
    commands), or those of another track. Raises UnsupportedError for another codec, ProtocolError for what is no video
    tag."""
    first = _take(data, 0, 1)[0]
    if first & _ENHANCED:
        return _enhanced(data, timestamp_ms)
    return _legacy(data, timestamp_ms)


def _legacy(data: bytes, timestamp_ms: int) -> Video:
    kind, codec = data[0] >> 4, data[0] & 0x0F
    if kind == _COMMAND_FRAME:
        return None
    if codec != _AVC:
        raise UnsupportedError(
            f"video codec {codec} of FLV ({_OLD_CODECS.get(codec, 'unknown')}) is not supported; publish H.264, or "
            "HEVC, AV1, VP9 or VP8 by enhanced RTMP"
        )
    packet = _take(data, 1, 1)[0]
    # The old packet types 0 and 1 are those of enhanced RTMP, but a composition time lies in every packet.
    if packet == _SEQUENCE_START:
        _take(data, 2, 3)
        return VideoConfig(codec="h264", extradata=data[5:])
    if packet == _CODED_FRAMES:
        return _frame("h264", kind == _KEYFRAME, timestamp_ms, data[2:], composed=True)
    return None


def _enhanced(data: bytes, timestamp_ms: int) -> Video:
    kind, packet, at = data[0] >> 4 & 0x07, data[0] & 0x0F, 1
    for _ in range(_MOST_MODEX):
        if packet != _MODEX:
            break
        packet, at = _behind_modifier(data, at)
    else:
        raise ProtocolError(f"a video tag with more than {_MOST_MODEX} modifiers")
    if packet == _METADATA or kind == _COMMAND_FRAME:
        return None
    if packet != _MULTITRACK:
        name, body = _take(data, at, 4), data[at + 4 :]
        return _packet(_codec(name), packet, body, kind == _KEYFRAME, timestamp_ms)
    found = _default_track(data, at)
    if found is None:
        return None
    packet, name, body = found
    return _packet(_codec(name), packet, body, kind == _KEYFRAME, timestamp_ms)


def _behind_modifier(data: bytes, at: int) -> tuple[int, int]:
    """The packet type that follows a ModEx at `at`, and where its data begin."""
    size = _take(data, at, 1)[0] + 1
    at += 1
    if size == 256:
        size = int.from_bytes(_take(data, at, 2), "big") + 1
        at += 2
    behind = _take(data, at + size, 1)[0]
    return behind & 0x0F, at + size + 1


def _default_track(data: bytes, at: int) -> tuple[int, bytes, bytes] | None:
    """Packet type, FourCC and body of the track with id 0; None where there are others only."""
    mode, packet = _take(data, at, 1)[0] >> 4, data[at] & 0x0F
    if mode > _MANY_CODECS:
        raise ProtocolError(f"a video tag with tracks in mode {mode}; there are 0, 1 and 2")
    at += 1
    name = b""
    if mode != _MANY_CODECS:
        name = _take(data, at, 4)
        at += 4
    for _ in range(_MOST_TRACKS):
        if mode == _MANY_CODECS:
            name = _take(data, at, 4)
            at += 4
        track, size = _take(data, at, 1)[0], len(data) - at - 1
        at += 1
        if mode != _ONE_TRACK:
            size = int.from_bytes(_take(data, at, 3), "big")
            at += 3
        body = _take(data, at, size)
        at += size
        if track == 0:
            return packet, name, body
        if at >= len(data):
            return None
    raise ProtocolError(f"a video tag with more than {_MOST_TRACKS} tracks")


def _codec(name: bytes) -> Codec:
    text = name.decode("latin-1")
    codec = FOURCC.get(text)
    if codec is None:
        raise UnsupportedError(f"video codec {text!r} is not supported; there are {', '.join(FOURCC)}")
    return codec


def _packet(codec: Codec, packet: int, body: bytes, keyframe: bool, timestamp_ms: int) -> Video:
    if packet == _SEQUENCE_START:
        return VideoConfig(codec=codec, extradata=body)
    if packet == _CODED_FRAMES:
        return _frame(codec, keyframe, timestamp_ms, body, composed=codec in _COMPOSED)
    if packet == _CODED_FRAMES_X:
        return _frame(codec, keyframe, timestamp_ms, body, composed=False)
    return None


def _frame(
    codec: Codec, keyframe: bool, timestamp_ms: int, body: bytes, *, composed: bool
) -> VideoFrame | None:
    """`composed`: `body` begins with the composition time, 24 bits with a sign. None where no picture follows."""
    composition = int.from_bytes(_take(body, 0, 3), "big", signed=True) if composed else 0
    picture = body[3:] if composed else body
    if not picture:
        return None
    return VideoFrame(
        codec=codec, keyframe=keyframe, dts_ms=timestamp_ms, composition_ms=composition, data=picture
    )


def _take(data: bytes, at: int, count: int) -> bytes:
    taken = data[at : at + count]
    if len(taken) < count:
        raise ProtocolError("a video tag ends too soon")
    return taken
