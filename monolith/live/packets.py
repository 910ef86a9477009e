"""Encoded live video: what a publisher sends, before anyone decodes it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Codec: TypeAlias = Literal[
    "h264", "hevc", "av1", "vp8", "vp9", "vvc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "h263"
]
"""By FFmpeg's names. Publishers push the first five; what is followed may come in any of them."""

CLOCK_RATE: Final = 90_000
"""Ticks of packet times in a second: the clock of video in RTP (RFC 3551, section 4)."""

PACKET_BYTES: Final = 250
"""Of memory that a packet takes beside its data."""


class VideoFormat(msgspec.Struct, frozen=True):
    """What a decoder has to know ahead. `configuration`: the decoder configuration record of the codec (ISO/IEC
    14496-15 `avcC`, `hvcC`; AV1-ISOBMFF `av1C`; VP9-ISOBMFF `vpcC`), of older codecs their headers; empty where all is
    in the packets (VP8).

    H.264, HEVC and VVC packets hold NAL units, each behind its length in as many bytes as the record says; without a
    record each behind a start code (Annex B), a keyframe with its parameter sets.
    """

    codec: Codec
    configuration: bytes = b""


class LivePacket(msgspec.Struct, frozen=True, gc=False):
    """One coded picture. `pts`, `dts`: ticks of `CLOCK_RATE` since any moment, the same for the whole connection, never
    wrapped; packets come in the order of `dts`. `arrived`: Unix seconds."""

    format: VideoFormat
    data: bytes
    pts: int
    dts: int
    keyframe: bool
    arrived: float

    @property
    def cost(self) -> int:
        """Bytes of memory, at most about so many: every packet may bring a format of its own."""
        return len(self.data) + len(self.format.configuration) + PACKET_BYTES
