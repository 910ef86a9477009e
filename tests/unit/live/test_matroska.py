"""What we write is read by FFmpeg's demuxer as what an encoder made."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from monolith.live.matroska import block, header
from monolith.live.packets import CLOCK_RATE, Codec, LivePacket, VideoFormat

PICTURES = 25
ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"bf": "2", "preset": "ultrafast", "x264-params": "log-level=none"}),
    "vp8": ("libvpx", {"deadline": "realtime"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}


def encoded(codec: Codec) -> list[LivePacket]:
    name, options = ENCODERS[codec]
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.gop_size = 64, 48, "yuv420p", 10
    encoder.time_base, encoder.framerate = Fraction(1, CLOCK_RATE), Fraction(25)
    encoder.flags |= av.codec.context.Flags.global_header.value
    encoder.options = options
    packets = []
    for number in range(PICTURES):
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 10, np.uint8), format="rgb24")
        picture = picture.reformat(format="yuv420p")
        picture.pts, picture.time_base = number * CLOCK_RATE // 25, Fraction(1, CLOCK_RATE)
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    video = VideoFormat(codec, avc_configuration(encoder.extradata or b"") if codec == "h264" else b"")
    made = []
    for one in packets:
        assert one.pts is not None and one.dts is not None
        data = with_lengths(bytes(one)) if codec == "h264" else bytes(one)
        made.append(LivePacket(video, data, one.pts, one.dts, one.is_keyframe, 0.0))
    return made


def units(data: bytes) -> list[bytes]:
    """NAL units between start codes."""
    return [unit for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]


def with_lengths(data: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4) + unit for unit in units(data))


def avc_configuration(data: bytes) -> bytes:
    sps, pps = (next(unit for unit in units(data) if unit[0] & 31 == kind) for kind in (7, 8))
    return (
        b"\1" + sps[1:4] + b"\xff\xe1" + len(sps).to_bytes(2) + sps + b"\1" + len(pps).to_bytes(2) + pps
    )  # fmt: skip


@pytest.mark.parametrize("codec", ENCODERS)
def test_the_pictures_and_their_times_are_the_encoders(codec: Codec) -> None:
    packets = encoded(codec)
    data = header(packets[0].format) + b"".join(map(block, packets))
    with av.open(io.BytesIO(data), "r", format="matroska", options={"analyzeduration": "0"}) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec
        pictures = list(container.decode(stream))
    assert [picture.pts for picture in pictures] == [40 * number for number in range(PICTURES)]
    assert {(picture.width, picture.height) for picture in pictures} == {(64, 48)}
    light = [int(picture.to_ndarray(format="gray").mean()) for picture in pictures]
    assert light == sorted(light) and light[-1] - light[0] > 150


def test_keyframes_are_marked() -> None:
    packets = encoded("vp8")
    data = header(packets[0].format) + b"".join(map(block, packets))
    with av.open(io.BytesIO(data), "r", format="matroska") as container:
        found = [one.is_keyframe for one in container.demux(video=0) if one.size]
    assert found == [one.keyframe for one in packets]
    assert True in found and False in found


def test_a_packet_can_be_read_before_the_next_one_comes() -> None:
    packets = encoded("vp8")
    pieces = [header(packets[0].format) + block(packets[0]), *map(block, packets[1:3])]

    class Growing:
        def read(self, size: int = -1) -> bytes:
            assert pieces, "asked for more than the packet that is there"
            return pieces.pop(0)

    with av.open(
        Growing(), "r", format="matroska", options={"probesize": "32", "analyzeduration": "0"}
    ) as container:
        demuxed = container.demux(video=0)
        for left in (2, 1, 0):
            next(demuxed)
            assert len(pieces) >= left - 1
