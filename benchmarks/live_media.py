"""Live pictures for the benchmarks: a street of 1280×720 at 30 a second, each with a number that can be read in it.

The number stands in a strip of black and white blocks above the pictures of `bikes.mp4`, which are 1280×544 then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from tests.media import sample_clip
from tests.videos import barcode, read_barcode

Planes: TypeAlias = npt.NDArray[np.uint8]

WIDTH, HEIGHT, RATE = 1280, 720, 30
NUMBERS: Final = 256
"""They come again after so many pictures."""
_STRIP: Final = 176
_STREET: Final = HEIGHT - _STRIP


def street() -> Iterator[VideoFrame]:
    """Pictures 0, 1, … without end (YUV 4:2:0), forwards and backwards through the clip, so that none cuts to another
    scene."""
    shown = _street_pictures()
    turn = [*shown, *reversed(shown[1:-1])]
    strips = [barcode(number, WIDTH, _STRIP)[:, :, 0] for number in range(NUMBERS)]
    number = 0
    while True:
        yield _with_strip(turn[number % len(turn)], strips[number % NUMBERS])
        number += 1


def plates() -> Iterator[VideoFrame]:
    """Pictures that show their number all over, without end."""
    shown = [barcode(number, WIDTH, HEIGHT) for number in range(NUMBERS)]
    number = 0
    while True:
        yield VideoFrame.from_ndarray(shown[number % NUMBERS])
        number += 1


def number_of(picture: Planes) -> int:
    """Of a picture of `street`, 0–255. Raises AssertionError where it cannot be read."""
    strip = picture.shape[0] * _STRIP // HEIGHT
    return read_barcode(picture[:strip])


def encode_street(path: Path, seconds: float, *, b_frames: int = 2, profile: str = "high") -> Path:
    """An MP4 of `street` at about 4 Mb/s, a keyframe every two seconds: as publishers send."""
    options = {
        "preset": "veryfast",
        "profile": profile,
        "g": str(2 * RATE),
        "bf": str(b_frames),
        "b": "4M",
        "maxrate": "4M",
        "bufsize": "4M",
    }
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in zip(range(round(seconds * RATE)), street(), strict=False):
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            target.mux(stream.encode(picture))
        target.mux(stream.encode())
    return path


def megabits_per_second(path: Path) -> float:
    """Of the packets of its video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.dts is not None]
    return sum(packet.size for packet in packets) * 8 / 1e6 / (len(packets) / RATE)


def _street_pictures() -> list[Planes]:
    """Half of the clip: the other half would only take memory."""
    with av.open(str(sample_clip("bikes.mp4"))) as container:
        stream = container.streams.video[0]
        pictures = itertools.islice(container.decode(stream), stream.frames // 2)
        return [
            np.asarray(one.reformat(width=WIDTH, height=_STREET, format="yuv420p").to_ndarray(), np.uint8)
            for one in pictures
        ]


def _with_strip(shown: Planes, strip: Planes) -> VideoFrame:
    """`shown`: the three planes of a street picture below each other, as `VideoFrame.to_ndarray` gives them."""
    luma, chroma = shown[:_STREET], shown[_STREET:].reshape(2, -1)
    grey = np.full((2, WIDTH * _STRIP // 4), 128, np.uint8)
    below = np.hstack((grey, chroma)).reshape(HEIGHT // 2, WIDTH)
    return VideoFrame.from_ndarray(np.vstack((strip, luma, below)), format="yuv420p")
