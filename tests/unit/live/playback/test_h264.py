from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from monolith.live.packets import LivePacket, VideoFormat
from monolith.live.playback.h264 import annex_b, configuration_of, nal_units, passes
from tests.live_clips import packets_of
from tests.videos import Recipe, make_video, read_barcode

SPS, PPS = b"\x67\x42\x00\x1f", b"\x68\xce"
CONFIGURATION = b"\x01\x42\x00\x1f\xff\xe1\x00\x04" + SPS + b"\x01\x00\x02" + PPS
START = b"\x00\x00\x00\x01"


def packet(data: bytes, *, keyframe: bool = False, configuration: bytes = CONFIGURATION) -> LivePacket:
    return LivePacket(VideoFormat("h264", configuration), data, 0, 0, keyframe, 0.0)


def unit(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def test_a_clip_is_the_same_as_annex_b(tmp_path: Path) -> None:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = []
    for one in packets_of(make_video(tmp_path, Recipe(frames=12, gop=5))):
        pictures += decoder.decode(Packet(annex_b(one)))
    pictures += decoder.decode(None)
    assert [read_barcode(np.asarray(one.to_ndarray(format="rgb24"), np.uint8)) for one in pictures] == list(
        range(1, 13)
    )


def test_a_keyframe_brings_its_parameter_sets_once() -> None:
    picture = b"\x65\x88"
    assert annex_b(packet(unit(picture), keyframe=True)) == START + SPS + START + PPS + START + picture
    whole = unit(SPS) + unit(PPS) + unit(picture)
    assert annex_b(packet(whole, keyframe=True)) == START + SPS + START + PPS + START + picture


def test_delimiters_and_filler_are_left_out() -> None:
    assert (
        annex_b(packet(unit(b"\x09\xf0") + unit(b"\x0c\xff\xff") + unit(b"\x41\x9a"))) == START + b"\x41\x9a"
    )


def test_what_is_annex_b_already_stays() -> None:
    assert annex_b(packet(START + b"\x65", configuration=b"")) == START + b"\x65"


@pytest.mark.parametrize(
    ("profile", "codec", "expected"),
    [(66, "h264", True), (77, "h264", True), (100, "h264", True), (110, "h264", False), (66, "hevc", False)],
)
def test_which_profiles_pass(profile: int, codec: str, expected: bool) -> None:
    record = CONFIGURATION[:1] + bytes((profile,)) + CONFIGURATION[2:]
    assert passes(VideoFormat(codec, record)) is expected  # type: ignore[arg-type]


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_garbage_is_no_configuration_or_one_with_sets(record: bytes, data: bytes) -> None:
    configuration = configuration_of(VideoFormat("h264", record))
    if configuration is not None:
        assert configuration.parameter_sets
        assert 1 <= configuration.length_bytes <= 4
    annex_b(packet(data, configuration=record))


@given(st.lists(st.binary(max_size=300), max_size=6), st.binary(max_size=3))
def test_nal_units_end_before_one_that_is_not_whole(units: list[bytes], rest: bytes) -> None:
    data = b"".join(unit(one) for one in units)
    assert list(nal_units(data + rest, 4)) == units
