from __future__ import annotations

import resource
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from monolith.domain.detection import ObjectDetection
from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.live.playback.encoder import Boxes, Decoder, PictureEncoder
from monolith.live.playback.messages import Begin, Found, OutCodec
from tests.live_clips import packets_of
from tests.videos import Recipe, barcode, make_video, read_barcode


def begin(codec: OutCodec = "h264", *, overlay: bool = False, max_height: int = 720) -> Begin:
    return Begin(codec, overlay, max_height, 1e9)


def picture(number: int, pts: int, width: int = 320, height: int = 240) -> VideoFrame:
    made = VideoFrame.from_ndarray(barcode(number, width, height))
    made.pts = pts
    return made


def found(milliseconds: int, left: float = 10) -> Found:
    car = ObjectDetection(class_id=2, class_name="car", confidence=0.9, xyxy=(left, 20, left + 30, 60))
    return Found(milliseconds, "Object Detection", 120, (car,))


def lefts(boxes: Boxes, milliseconds: int, height: int = 120) -> list[float]:
    shown = boxes.at(milliseconds, height)
    return [one.xyxy[0] for one in shown if isinstance(one, ObjectDetection)]


def test_boxes_are_those_of_the_newest_result_up_to_the_picture() -> None:
    boxes = Boxes()
    for time, left in ((0, 10), (200, 20), (400, 30)):
        boxes.add(found(time, left))
    assert [lefts(boxes, time) for time in (0, 199, 200, 399, 1400)] == [[10], [10], [20], [20], [30]]
    assert lefts(boxes, 1401) == []
    assert lefts(boxes, 250, height=240) == [40]


def test_each_model_has_its_own_newest_result() -> None:
    boxes = Boxes()
    boxes.add(found(0))
    boxes.add(Found(100, "Joy Detection", 120, ()))
    assert lefts(boxes, 150) == [10]


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_pictures_come_out_at_once_and_with_their_times(codec: OutCodec) -> None:
    encoder, decoder = PictureEncoder(begin(codec)), av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for number in range(1, 11):
        (coded,) = encoder.encode(picture(number, number * 3003))
        assert coded.pts == number * 3003
        assert coded.is_keyframe == (number == 1)
        (shown,) = decoder.decode(Packet(bytes(coded)))
        assert read_barcode(np.asarray(shown.to_ndarray(format="rgb24"), np.uint8)) == number


def keyframes(encoder: PictureEncoder, packets: list[list[Packet[Any]]]) -> list[int]:
    return [number for number, coded in enumerate(packets) if coded[0].is_keyframe]


def test_keyframes_come_every_two_seconds_and_when_asked_for() -> None:
    encoder = PictureEncoder(begin())
    packets = []
    for number in range(80):
        if number == 20:
            encoder.ask_keyframe()
        packets.append(encoder.encode(picture(number, number * CLOCK_RATE // 25)))
    assert keyframes(encoder, packets) == [0, 20, 70]


def test_pictures_are_scaled_down_and_may_change_their_size() -> None:
    encoder = PictureEncoder(begin(max_height=120))
    sizes = [(320, 240), (320, 240), (640, 240), (160, 90)]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    seen = []
    for number, (width, height) in enumerate(sizes):
        (coded,) = encoder.encode(picture(number, number * 3600, width, height))
        seen += [(one.width, one.height) for one in decoder.decode(Packet(bytes(coded)))]
    seen += [(one.width, one.height) for one in decoder.decode(None)]
    assert seen == [(160, 120), (160, 120), (320, 120), (160, 90)]


def test_boxes_are_drawn_into_their_picture() -> None:
    encoder = PictureEncoder(begin(overlay=True))
    encoder.boxes.add(found(40))
    grey = VideoFrame.from_ndarray(np.full((120, 160, 3), 128, np.uint8))
    grey.pts = 40 * CLOCK_RATE // 1000
    (coded,) = encoder.encode(grey)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (shown,) = [*decoder.decode(Packet(bytes(coded))), *decoder.decode(None)]
    pixels = np.asarray(shown.to_ndarray(format="rgb24"), np.int16)
    coloured = np.argwhere(pixels.max(axis=2) - pixels.min(axis=2) > 40)
    assert abs(coloured[:, 1].min() - 10) <= 3
    assert abs(coloured[:, 0].max() - 60) <= 3


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", ".mp4"),
        ("libx265", ".mp4"),
        ("libvpx", ".webm"),
        ("libvpx-vp9", ".mp4"),
        ("libsvtav1", ".mp4"),
    ],
)
def test_what_publishers_send_is_decoded_with_its_times(tmp_path: Path, codec: str, suffix: str) -> None:
    packets = packets_of(make_video(tmp_path, Recipe(suffix=suffix, codec=codec, frames=20)))
    decoder = Decoder()
    pictures = [one for packet in packets for one in decoder.pictures(packet)]
    numbers = [read_barcode(np.asarray(one.to_ndarray(format="rgb24"), np.uint8)) for one in pictures]
    assert len(numbers) >= 16
    assert [one.pts for one in pictures] == [packets[number - 1].pts for number in numbers]


def test_a_picture_that_claims_to_be_huge_takes_no_memory() -> None:
    encoder = PictureEncoder(begin("vp8"))
    (coded,) = encoder.encode(picture(1, 0, 64, 64))
    data = bytes(coded)
    huge = data[:6] + struct.pack("<HH", 16_000, 16_000) + data[10:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FFmpegError):
        Decoder().pictures(LivePacket(VideoFormat("vp8"), huge, 0, 0, True, 0.0))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
