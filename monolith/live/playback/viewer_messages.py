"""What a viewer is told besides the pictures, as JSON: on the data channel, and by server-sent events."""

from __future__ import annotations

import msgspec

from monolith.live.packets import CLOCK_RATE
from monolith.live.playback.results import LiveResult


class ViewerHello(msgspec.Struct, frozen=True, tag="hello"):
    """`player_delay_ms`: by so much a player lags best; `clock_rate`: ticks of `rtp_timestamp` in a second."""

    video_id: str
    player_delay_ms: int
    clock_rate: int = CLOCK_RATE


class ViewerResults(msgspec.Struct, frozen=True, tag="results"):
    """What one model found in one frame. `rtp_timestamp`: of this frame in the viewer's track, 0 to 4294967295 (as in
    `requestVideoFrameCallback`); `video_timestamp`: seconds on the video's timeline; `wall_time`: when the program got
    the picture, Unix seconds; `width`, `height`: the size that coordinates refer to; `inference_results`: as in
    `/results`."""

    frame_number: int
    video_timestamp: float
    rtp_timestamp: int
    wall_time: float
    width: int
    height: int
    inference_model: str
    inference_results: msgspec.Raw


class ClockPoint(msgspec.Struct, frozen=True):
    """One picture by all of its clocks, as in ViewerResults. Until the publisher connects again, a picture at t seconds
    of the video has `rtp_timestamp` + (t - `video_timestamp`) × clock rate, modulo 2³²; the millisecond in which times
    of publishers are kept is the error of that."""

    frame_number: int
    video_timestamp: float
    rtp_timestamp: int
    wall_time: float


def viewer_results(result: LiveResult, rtp_timestamp: int, wall_time: float) -> ViewerResults:
    return ViewerResults(
        frame_number=result.frame_number,
        video_timestamp=round(result.timestamp, 6),
        rtp_timestamp=rtp_timestamp,
        wall_time=round(wall_time, 3),
        width=result.time.width,
        height=result.time.height,
        inference_model=result.model,
        inference_results=result.entries,
    )


def clock_point(results: ViewerResults) -> ClockPoint:
    return ClockPoint(results.frame_number, results.video_timestamp, results.rtp_timestamp, results.wall_time)
