from __future__ import annotations

import pytest

from monolith.protocols.errors import ProtocolError, UnsupportedError
from monolith.protocols.flv import FOURCC, HEADER, VideoConfig, VideoFrame, parse_video, video_tag

PICTURE = b"picture"


def frame(codec: str, *, composition: int = 0, keyframe: bool = True, data: bytes = PICTURE) -> VideoFrame:
    (known,) = (name for name in FOURCC.values() if name == codec)
    return VideoFrame(codec=known, keyframe=keyframe, dts_ms=40, composition_ms=composition, data=data)


def enhanced(kind: int, packet: int, body: bytes, name: bytes = b"hvc1") -> bytes:
    return bytes([0x80 | kind << 4 | packet]) + name + body


def track(number: int, body: bytes) -> bytes:
    return bytes([number]) + len(body).to_bytes(3, "big") + body


def test_the_configuration_of_h264() -> None:
    assert parse_video(b"\x17\0\0\0\0avcC", 0) == VideoConfig(codec="h264", extradata=b"avcC")


@pytest.mark.parametrize(
    ("kind", "composition", "expected"),
    [
        (0x17, b"\0\0\x50", frame("h264", composition=80)),
        (0x27, b"\xff\xff\xff", frame("h264", composition=-1, keyframe=False)),
    ],
)
def test_frames_of_h264(kind: int, composition: bytes, expected: VideoFrame) -> None:
    assert parse_video(bytes([kind, 1]) + composition + PICTURE, 40) == expected


@pytest.mark.parametrize("data", [b"\x17\x02\0\0\0", b"\x57\0", b"\x27\x01\0\0\0", b"\x27\x07", b"\x52"])
def test_what_carries_no_picture(data: bytes) -> None:
    assert parse_video(data, 0) is None


@pytest.mark.parametrize(("codec", "name"), [(2, "Sorenson H.263"), (4, "VP6"), (12, "unknown")])
def test_old_codecs_are_not_supported(codec: int, name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse_video(bytes([0x10 | codec, 0, 0]), 0)
    assert str(caught.value) == (
        f"video codec {codec} of FLV ({name}) is not supported; "
        "publish H.264, or HEVC, AV1, VP9 or VP8 by enhanced RTMP"
    )


@pytest.mark.parametrize(("name", "codec"), FOURCC.items())
def test_enhanced_codecs(name: str, codec: str) -> None:
    composition = b"\0\0\x05" if codec in ("h264", "hevc") else b""
    config = parse_video(enhanced(1, 0, b"record", name.encode()), 0)
    assert isinstance(config, VideoConfig)
    assert (config.codec, config.extradata) == (codec, b"record")
    assert parse_video(enhanced(1, 1, composition + PICTURE, name.encode()), 40) == frame(
        codec, composition=5 if composition else 0
    )
    assert parse_video(enhanced(2, 3, PICTURE, name.encode()), 40) == frame(codec, keyframe=False)


@pytest.mark.parametrize(
    "data",
    [
        enhanced(1, 2, b""),
        enhanced(1, 4, b"metadata"),
        enhanced(1, 5, b"x"),
        enhanced(5, 1, b""),
        enhanced(1, 3, b""),
    ],
)
def test_enhanced_tags_without_a_picture(data: bytes) -> None:
    assert parse_video(data, 0) is None


def test_another_fourcc_is_not_supported() -> None:
    with pytest.raises(
        UnsupportedError, match="'vvc1' is not supported; there are avc1, hvc1, av01, vp09, vp08"
    ):
        parse_video(enhanced(1, 0, b"", b"vvc1"), 0)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65536])
def test_modifiers_are_passed_over(size: int) -> None:
    length = bytes([size - 1]) if size < 256 else b"\xff" + (size - 1).to_bytes(2, "big")
    plain = enhanced(1, 3, PICTURE)
    modified = b"\x97" + length + bytes(size) + b"\x07" + b"\x02" + bytes(3) + b"\x03" + plain[1:]
    assert parse_video(modified, 40) == frame("hevc")


def test_modifiers_are_bounded() -> None:
    with pytest.raises(ProtocolError, match="a video tag with more than 16 modifiers"):
        parse_video(b"\x97" + b"\x00\x00\x07" * 17, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"\x03" + b"hvc1" + b"\x00" + PICTURE,
        b"\x13" + b"hvc1" + track(0, PICTURE) + track(1, b"other"),
        b"\x13" + b"hvc1" + track(1, b"other") + track(0, PICTURE),
        b"\x23" + b"av01" + track(3, b"other") + b"hvc1" + track(0, PICTURE),
    ],
)
def test_of_several_tracks_the_default_one_is_taken(body: bytes) -> None:
    assert parse_video(b"\x96" + body, 40) == frame("hevc")


@pytest.mark.parametrize(
    "body",
    [
        b"\x03" + b"hvc1" + b"\x01" + PICTURE,
        b"\x13" + b"hvc1" + track(2, PICTURE) + track(1, b"other"),
        b"\x23" + b"vvc1" + track(3, b"other") + b"hvc1" + track(1, PICTURE),
    ],
)
def test_other_tracks_are_passed_over(body: bytes) -> None:
    assert parse_video(b"\x96" + body, 40) is None


def test_tracks_are_bounded() -> None:
    assert parse_video(b"\x96\x13hvc1" + track(1, b"") * 256, 0) is None
    with pytest.raises(ProtocolError, match="a video tag with more than 256 tracks"):
        parse_video(b"\x96\x13hvc1" + track(1, b"") * 257, 0)


def test_tracks_in_another_mode() -> None:
    with pytest.raises(ProtocolError, match="a video tag with tracks in mode 3; there are 0, 1 and 2"):
        parse_video(b"\x96\x33hvc1", 0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x17", b"\x17\x00\0\0", b"\x17\x01\0\0", b"\x90hvc", b"\x91hvc1\0\0", b"\x97", b"\x97\xff\0",
        b"\x97\x03\0", b"\x96", b"\x96\x03hvc", b"\x96\x03hvc1", b"\x96\x13hvc1\0\0\0", b"\x96\x13hvc1\0\0\0\x05xxxx",
        b"\x96\x23hvc1" + track(1, b"x") + b"av",
    ],
)  # fmt: skip
def test_tags_that_end_too_soon(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a video tag ends too soon"):
        parse_video(data, 0)


def test_a_tag_of_a_file() -> None:
    assert video_tag(b"body", 0x12345678) == (b"\x09\0\0\x04\x34\x56\x78\x12\0\0\0" + b"body" + b"\0\0\0\x0f")
    assert video_tag(b"", -1)[4:8] == b"\xff\xff\xff\xff"
    assert (HEADER[:3], HEADER[4], len(HEADER)) == (b"FLV", 1, 13)
