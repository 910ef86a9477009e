"""A clip with a stop sign that moves to and fro: the models know it, and every picture of it can be measured.

The sign is drawn, symmetric, and the only red thing in the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from tests.videos import Picture

WIDTH: Final = 640
HEIGHT: Final = 360
RADIUS: Final = 60
STEP: Final = 8
"""Pixels that the sign moves from one picture to the next."""
TURN: Final = 50
"""Pictures until it turns back; then it is where it began after as many again."""
RATE: Final = 25
_WHITE: Final = (245, 245, 245)
_RED: Final = (200, 20, 30)


def centre(number: int) -> tuple[int, int]:
    """Of the sign in picture `number` (from 0), in pixels."""
    phase = number % (2 * TURN)
    return 120 + STEP * (phase if phase < TURN else 2 * TURN - phase), 150


def picture(number: int) -> Picture:
    made = np.full((HEIGHT, WIDTH, 3), (120, 160, 190), np.uint8)
    made[HEIGHT * 3 // 4 :] = (110, 110, 105)
    x, y = centre(number)
    made[y + RADIUS :, x - 4 : x + 4] = (90, 95, 100)
    cv2.fillPoly(made, [_octagon(x, y, RADIUS)], _WHITE, cv2.LINE_AA)
    cv2.fillPoly(made, [_octagon(x, y, RADIUS * 0.93)], _RED, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize("STOP", cv2.FONT_HERSHEY_DUPLEX, RADIUS / 45, 4)
    foot = x - width // 2, y + height // 2
    cv2.putText(made, "STOP", foot, cv2.FONT_HERSHEY_DUPLEX, RADIUS / 45, _WHITE, 4, cv2.LINE_AA)
    return made


def _octagon(x: int, y: int, radius: float) -> Picture:
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    return corners.round().astype(np.int32)


def make_sign_clip(path: Path, *, b_frames: int = 0) -> Path:
    """H.264 with a keyframe each second; it can be repeated without a jump."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "16", "g": str(RATE), "bf": str(b_frames)}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(2 * TURN):
            container.mux(stream.encode(VideoFrame.from_ndarray(picture(number))))
        container.mux(stream.encode())
    return path
