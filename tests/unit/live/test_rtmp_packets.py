from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from monolith.live.packets import LivePacket, VideoFormat
from monolith.live.rtmp_packets import PacketMaker
from monolith.protocols.errors import ProtocolError, UnsupportedError

AVCC = bytes.fromhex("0142c01effe1000467 42c01e01000468ce3c80".replace(" ", ""))
PICTURES = 20
CONFIG = b"\x17\x00\x00\x00\x00" + AVCC


def picture(*, keyframe: bool = False, later_ms: int = 0, data: bytes = b"\0\0\0\1A") -> bytes:
    return (b"\x17" if keyframe else b"\x27") + b"\x01" + later_ms.to_bytes(3, "big", signed=True) + data


def made(maker: PacketMaker, data: bytes, time: int) -> LivePacket:
    packet = maker.packet(data, time, 7.0)
    assert packet is not None
    return packet


def test_pictures_are_shown_when_they_say() -> None:
    maker = PacketMaker()
    assert maker.packet(CONFIG, 0, 7.0) is None
    first = made(maker, picture(keyframe=True, later_ms=80), 40)
    second = made(maker, picture(later_ms=-40), 80)
    assert first == LivePacket(VideoFormat("h264", AVCC), b"\0\0\0\1A", 120 * 90, 40 * 90, True, 7.0)
    assert (second.dts, second.pts, second.keyframe) == (80 * 90, 40 * 90, False)


def test_an_equal_configuration_is_no_change() -> None:
    maker = PacketMaker()
    maker.packet(CONFIG, 0, 7.0)
    first = made(maker, picture(keyframe=True), 0)
    maker.packet(CONFIG, 40, 7.0)
    assert made(maker, picture(), 40).format is first.format
    maker.packet(CONFIG[:-1] + b"\x81", 80, 7.0)
    assert made(maker, picture(keyframe=True), 80).format != first.format


def test_what_comes_before_its_configuration_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    maker = PacketMaker()
    assert maker.packet(picture(keyframe=True), 0, 7.0) is None
    assert maker.passed_over == 1
    assert caplog.text.count("no configuration of h264 came before them") == 1


def test_decoding_times_never_go_back() -> None:
    maker = PacketMaker()
    maker.packet(CONFIG, 0, 7.0)
    times = [(0, 0), (40, 40), (30, 41), (70, 81), (-1000, 82), (-960, 122), (2**33, 2**33 + 1082)]
    for said, taken in times:
        assert made(maker, picture(later_ms=10), said).dts == taken * 90
    assert made(maker, picture(later_ms=10), 2**33 + 40).pts == (2**33 + 1132) * 90


def test_configurations_have_a_bound() -> None:
    maker = PacketMaker()
    assert maker.packet(CONFIG[:5] + bytes(64 << 10), 0, 7.0) is None
    with pytest.raises(ProtocolError, match="a configuration of h264 with 65537 bytes; there may be 65536"):
        maker.packet(CONFIG[:5] + bytes((64 << 10) + 1), 0, 7.0)


def test_vp8_needs_no_configuration() -> None:
    packet = made(PacketMaker(), b"\x91vp08" + b"\x10\x02\x00\x9d\x01\x2a", 5)
    assert (packet.format, packet.keyframe) == (VideoFormat("vp8"), True)


def test_of_two_tracks_of_a_real_muxer_one_is_taken(tmp_path: Path) -> None:
    """FFmpeg's has the first plainly, the second by its id."""
    wanted, tags = two_tracks(tmp_path / "two.flv")
    maker = PacketMaker()
    packets = [packet for tag, time in tags if (packet := maker.packet(tag, time, 7.0)) is not None]
    assert len(tags) > 2 * len(wanted) and len(packets) == PICTURES
    assert [packet.data for packet in packets] == wanted
    assert len({packet.format for packet in packets}) == 1 and maker.passed_over == 0


def two_tracks(path: Path) -> tuple[list[bytes], list[tuple[bytes, int]]]:
    """Packets of the first track, as MP4 has them; bodies and times of all video tags."""
    with av.open(str(path), "w") as out:
        streams = [
            out.add_stream("libx264", 25, width=size, height=size, pix_fmt="yuv420p") for size in (64, 32)
        ]
        for number in range(PICTURES):
            for stream in streams:
                plain = np.full((stream.height, stream.width, 3), number * 10, np.uint8)
                picture = VideoFrame.from_ndarray(plain).reformat(format="yuv420p")
                picture.pts, picture.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(picture))
        for stream in streams:
            out.mux(stream.encode(None))
    with av.open(str(path)) as read:
        wanted = [bytes(packet) for packet in read.demux(read.streams.video[0]) if packet.size]
    return wanted, list(video_tags(path.read_bytes()))


def video_tags(file: bytes) -> Iterator[tuple[bytes, int]]:
    at = 13
    while at < len(file):
        size = int.from_bytes(file[at + 1 : at + 4], "big")
        if file[at] == 9:
            yield file[at + 11 : at + 11 + size], int.from_bytes(file[at + 4 : at + 7], "big")
        at += 15 + size


@pytest.mark.parametrize("data", [b"\x12" + bytes(9), b"\x17", b"\x17\x01\0"])
def test_what_is_no_video_for_us_is_refused(data: bytes) -> None:
    with pytest.raises((ProtocolError, UnsupportedError)):
        PacketMaker().packet(data, 0, 7.0)
