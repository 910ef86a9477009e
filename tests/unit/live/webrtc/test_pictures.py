from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload
from hypothesis import given
from hypothesis import strategies as st

from monolith.live.matroska import block, header
from monolith.live.packets import CLOCK_RATE, Codec, LivePacket
from monolith.live.webrtc.assembly import CodedPicture
from monolith.live.webrtc.pictures import (
    PicturePacker,
    Times,
    exp_golomb,
    is_h264_keyframe,
    is_vp8_keyframe,
    nal_units,
)

FRAME = CLOCK_RATE // 25


def coded(codec: Codec, count: int, width: int = 64, height: int = 48, first: int = 0) -> list[CodedPicture]:
    """As they come out of RTP packets of aiortc's own encoders."""
    encoder = H264Encoder() if codec == "h264" else Vp8Encoder()
    depayload = h264_depayload if codec == "h264" else vp8_depayload
    made = []
    for number in range(first, first + count):
        grey = np.full((height * 3 // 2, width), 40 + number * 4 % 160, np.uint8)
        picture = av.VideoFrame.from_ndarray(grey, format="yuv420p")
        picture.pts, picture.time_base = number * FRAME, Fraction(1, CLOCK_RATE)
        payloads, timestamp = encoder.encode(picture)
        data = b"".join(map(depayload, payloads))
        made.append(CodedPicture(data, timestamp % 2**32, number / 25))
    return made


def packed(packer: PicturePacker, pictures: list[CodedPicture]) -> list[LivePacket]:
    return [one for picture in pictures if (one := packer.pack(picture, 0.0)) is not None]


def sizes(packets: list[LivePacket]) -> list[tuple[int, int]]:
    """Decoded as they are handed on: one input for each format."""
    found = []
    inputs: list[bytes] = []
    before = None
    for packet in packets:
        if packet.format is not before:
            inputs.append(header(packet.format))
            before = packet.format
        inputs[-1] += block(packet)
    for data in inputs:
        with av.open(io.BytesIO(data), "r", format="matroska") as container:
            found += [(picture.width, picture.height) for picture in container.decode(video=0)]
    return found


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_what_was_encoded_can_be_decoded_also_in_another_size(codec: Codec) -> None:
    packer = PicturePacker(codec, Times())
    packets = packed(packer, coded(codec, 5) + coded(codec, 5, 96, 80, first=5))
    assert [one.keyframe for one in packets] == ([True] + [False] * 4) * 2
    assert [one.pts for one in packets] == [number * FRAME for number in range(10)]
    assert [one.dts for one in packets] == [one.pts for one in packets]
    assert sizes(packets) == [(64, 48)] * 5 + [(96, 80)] * 5
    assert (packets[0].format == packets[9].format) is (codec == "vp8")


def test_parameter_sets_are_in_the_format_only() -> None:
    packets = packed(PicturePacker("h264", Times()), coded("h264", 3))
    for packet in packets:
        kinds, rest = [], packet.data
        while rest:
            size = int.from_bytes(rest[:4])
            kinds.append(rest[4] & 31)
            rest = rest[4 + size :]
        assert not {7, 8, 9} & set(kinds)
    assert packets[0].format is packets[2].format


def test_parameter_sets_may_come_in_a_packet_of_their_own() -> None:
    (first, second) = coded("h264", 2)
    units = nal_units(first.data)
    sets = b"".join(b"\0\0\0\1" + one for one in units if one[0] & 31 in (7, 8))
    slices = b"".join(b"\0\0\0\1" + one for one in units if one[0] & 31 not in (7, 8))
    assert is_h264_keyframe(sets)
    pictures = [first._replace(data=sets), first._replace(data=slices), second]
    packets = packed(PicturePacker("h264", Times()), pictures)
    assert [one.keyframe for one in packets] == [True, False]
    assert sizes(packets) == [(64, 48)] * 2


def test_without_parameter_sets_there_is_no_picture() -> None:
    first = coded("h264", 1)[0]
    slices = b"".join(b"\0\0\0\1" + one for one in nal_units(first.data) if one[0] & 31 == 5)
    assert packed(PicturePacker("h264", Times()), [first._replace(data=slices)]) == []


@pytest.mark.parametrize(("codec", "test"), [("h264", is_h264_keyframe), ("vp8", is_vp8_keyframe)])
def test_keyframes_are_told_from_their_beginning(codec: Codec, test: type) -> None:
    first, second = coded(codec, 2)
    assert test(first.data)
    assert not test(second.data)
    assert not test(first.data[5:])
    assert not test(b"")


@given(st.sampled_from(["h264", "vp8"]), st.lists(st.binary(max_size=40)))
def test_any_data_is_taken(codec: Codec, pieces: list[bytes]) -> None:
    packer = PicturePacker(codec, Times())
    found = packed(packer, [CodedPicture(b"\0\0\0\1".join(pieces), 0, 0.0), CodedPicture(b"", 1, 0.0)])
    assert all(one.data for one in found)


def test_numbers_of_parameter_sets() -> None:
    assert [exp_golomb(one) for one in (b"\x80", b"\x40", b"\x60", b"\x20", b"\x28")] == [0, 1, 2, 3, 4]
    assert exp_golomb(b"\0\0\0\0\0") == exp_golomb(b"") == 1 << 16


def test_times_begin_at_0_and_do_not_wrap() -> None:
    times = Times()
    stamps = [(2**32 - 5000 + n * FRAME) % 2**32 for n in range(10)]
    assert [times.of(one, n / 25) for n, one in enumerate(stamps)] == [n * FRAME for n in range(10)]


def test_a_little_back_is_back() -> None:
    times = Times()
    assert [times.of(one, 0.0) for one in (100_000, 106_000, 103_000)] == [0, 6000, 3000]


@pytest.mark.parametrize("jump", [-3_000_000, 2**31 - 1, 50_000_000])
def test_after_a_jump_the_clock_counts(jump: int) -> None:
    times = Times()
    times.of(10_000_000, 0.0)
    assert times.of((10_000_000 + jump) % 2**32, 0.5) == CLOCK_RATE // 2
    assert times.of((10_000_000 + jump + FRAME) % 2**32, 0.54) == CLOCK_RATE // 2 + FRAME


def test_another_sender_goes_on_where_the_clock_stands() -> None:
    times = Times()
    times.of(1000, 0.0)
    times.begin_anew()
    assert times.of(1001, 2.0) == 2 * CLOCK_RATE
