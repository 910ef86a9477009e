"""What a demuxer gives of a transport stream becomes what it gives of an MP4 file, and decodes to the same pictures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.packet import Packet

from monolith.ingest.reader import OpenVideo, open_video
from monolith.live.followed.packing import CODECS, Packer
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.playback import h264
from monolith.live.playback.encoder import Decoder
from tests.peers.programs import ffmpeg
from tests.videos import Recipe, make_video, read_barcode

FRAMES = 12


def packed(video: OpenVideo) -> list[LivePacket]:
    context = video.stream.codec_context
    packer = Packer(CODECS[context.codec.canonical_name], bytes(context.extradata or b""))
    found = []
    for packet in video.packets():
        if packet.size:
            data = packer.pack(bytes(packet), keyframe=packet.is_keyframe)
            found.append(LivePacket(packer.format, data, *times(packet), packet.is_keyframe, 0.0))
    return found


def times(packet: Packet[Any]) -> tuple[int, int]:
    assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
    return round(packet.pts * packet.time_base * CLOCK_RATE), round(
        packet.dts * packet.time_base * CLOCK_RATE
    )


def clip(folder: Path, recipe: Recipe) -> Path:
    """As a transport stream: H.264 and HEVC between start codes."""
    made = make_video(folder, recipe)
    target = folder / "clip.ts"
    subprocess.run([ffmpeg(), "-v", "error", "-i", made, "-c", "copy", target], check=True, timeout=60)
    return target


def shown(packets: list[LivePacket]) -> list[int]:
    decoder = Decoder()
    pictures = [picture for packet in packets for picture in decoder.pictures(packet)]
    return [read_barcode(np.asarray(one.to_ndarray(format="rgb24"), np.uint8)) for one in pictures]


def test_h264_is_packed_so_that_it_can_be_passed_on(tmp_path: Path) -> None:
    with open_video(clip(tmp_path, Recipe(frames=FRAMES, gop=5))) as video:
        packets = packed(video)
    assert [one.keyframe for one in packets] == [number % 5 == 0 for number in range(FRAMES)]
    assert all(h264.passes(one.format) for one in packets)
    assert len({one.format for one in packets}) == 1
    assert shown(packets) == list(range(1, FRAMES + 1))
    kinds = [[unit[0] & 31 for unit in h264.nal_units(one.data, 4)] for one in packets]
    assert all(set(one) <= {1, 5, 6, 7, 8} for one in kinds)


def test_h264_of_a_file_is_as_it_should_be_already(tmp_path: Path) -> None:
    with open_video(make_video(tmp_path, Recipe(frames=FRAMES, gop=5))) as video:
        packets = packed(video)
    assert all(h264.passes(one.format) for one in packets)
    assert shown(packets) == list(range(1, FRAMES + 1))


@pytest.mark.parametrize(
    ("codec", "made"), [("libx265", clip), ("mpeg2video", clip), ("libx265", make_video)]
)
def test_other_codecs_are_packed_so_that_they_can_be_decoded(
    tmp_path: Path, codec: str, made: Callable[[Path, Recipe], Path]
) -> None:
    """From any keyframe on. The last pictures may be held back by the decoder."""
    with open_video(made(tmp_path, Recipe(frames=FRAMES, gop=4, codec=codec))) as video:
        packets = packed(video)
    assert not any(h264.passes(one.format) for one in packets)
    numbers = shown(packets[4:])
    assert len(numbers) >= FRAMES - 6 and numbers == list(range(5, 5 + len(numbers)))


def nal(kind: int, *content: int) -> bytes:
    return b"\0\0\0\1" + bytes((kind, *content))


SPS, PPS, OTHER_PPS = nal(7, 66, 0, 30, 1), nal(8, 1), nal(8, 2)
IDR, SLICE = nal(0x65, 9), nal(0x41, 9)


def test_parameter_sets_that_were_said_ahead_are_taken() -> None:
    packer = Packer("h264", SPS + PPS)
    assert packer.pack(IDR, keyframe=True) == b"\0\0\0\2\x65\x09"
    configuration = h264.configuration_of(packer.format)
    assert configuration is not None and configuration.parameter_sets == (SPS[4:], PPS[4:])


def test_parameter_sets_with_a_keyframe_are_newer_and_make_another_format() -> None:
    packer = Packer("h264", SPS + PPS)
    packer.pack(IDR, keyframe=True)
    before = packer.format
    packer.pack(SPS + OTHER_PPS + IDR, keyframe=True)
    configuration = h264.configuration_of(packer.format)
    assert packer.format != before
    assert configuration is not None and configuration.parameter_sets == (SPS[4:], OTHER_PPS[4:])


def test_a_keyframe_that_is_only_a_recovery_point_is_for_decoders_not_for_browsers() -> None:
    packer = Packer("h264", SPS + PPS)
    assert packer.pack(SLICE, keyframe=True) == SPS + PPS + SLICE
    assert not h264.passes(packer.format)
    assert packer.pack(SLICE, keyframe=False) == SLICE


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0" * 9, nal(7), nal(7, 1) + nal(8), b"x" * 70_000])
@pytest.mark.parametrize("codec", ["h264", "hevc", "vvc"])
def test_no_bytes_are_too_strange(codec: str, data: bytes) -> None:
    packer = Packer(CODECS[codec], data)
    for keyframe in (True, False):
        packer.pack(data, keyframe=keyframe)
        packer.pack(b"\0\0\0\1\x67" + data * 2 + b"\0\0\1\x65", keyframe=keyframe)
    assert not h264.passes(packer.format) or codec == "h264"
