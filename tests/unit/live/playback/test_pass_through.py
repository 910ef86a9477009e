from __future__ import annotations

import pytest

from monolith.live.feeds import LiveFeed
from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.live.playback.pass_through import can_pass
from tests.unit.live.playback.test_h264 import CONFIGURATION

FRAME = CLOCK_RATE // 25
H264 = VideoFormat("h264", CONFIGURATION)


def feed(frames: int, gop: int, *, video: VideoFormat = H264, delay: int = 0) -> LiveFeed:
    """`delay`: pictures from decoding to showing."""
    made = LiveFeed("v")
    for number in range(frames):
        pts = (number + delay) * FRAME
        made.publish(LivePacket(video, b"", pts, number * FRAME, number % gop == 0, 0.0))
    return made


def test_short_groups_without_b_frames_pass() -> None:
    assert can_pass(feed(60, 25), "h264", 2.0)


@pytest.mark.parametrize(
    "refused",
    [
        feed(0, 25),
        feed(60, 25, delay=2),
        feed(130, 60),
        feed(55, 100),
        feed(60, 25, video=VideoFormat("hevc", CONFIGURATION)),
        feed(60, 25, video=VideoFormat("h264", b"broken")),
    ],
    ids=["nothing yet", "B-frames", "long groups", "a group that is long already", "HEVC", "broken"],
)
def test_what_does_not_pass(refused: LiveFeed) -> None:
    assert not can_pass(refused, "h264", 2.0)


def test_a_publisher_who_can_be_asked_for_keyframes_may_have_long_groups() -> None:
    made = feed(130, 125, video=VideoFormat("vp8"))
    assert not can_pass(made, "vp8", 2.0)
    made.ask_keyframe = lambda: None
    assert can_pass(made, "vp8", 2.0)
    assert not can_pass(made, "h264", 2.0)
