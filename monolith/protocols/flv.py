"""Video tags of FLV, as RTMP carries them: H.264 in the old way, and by enhanced RTMP also HEVC, AV1, VP9, VP8."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Codec: TypeAlias = Literal["h264", "hevc", "av1", "vp9", "vp8"]
"""By the names of FFmpeg's decoders."""


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


def parse_video(data: bytes, timestamp_ms: int) -> VideoConfig | VideoFrame | None:
    """The meaning of a video message's body; None for what carries no picture (metadata, the end of a sequence,
    commands). Raises UnsupportedError for another codec, ProtocolError for what is no video tag."""
    raise NotImplementedError("being written")
