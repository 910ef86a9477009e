"""Small videos made with PyAV whose pictures say which frame they are, and helpers that damage them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Picture = npt.NDArray[np.uint8]

WIDTH: Final = 160
HEIGHT: Final = 120
_COLUMNS: Final = 8
_TIME_BASE: Final = Fraction(1, 1000)


def barcode(number: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A picture (RGB) of 8 × 2 black or white blocks: `number` (0–255) above, a check sum of it below."""
    rows = [_bits(number), _bits(_check(number))]
    blocks = np.array(rows, np.uint8) * 200 + 30
    grey = np.kron(blocks, np.ones((height // 2, width // _COLUMNS), np.uint8))
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def read_barcode(picture: Picture) -> int:
    """The number in a picture of `barcode`, at any scale. Raises AssertionError for another picture."""
    height, width = picture.shape[:2]
    xs = ((np.arange(_COLUMNS) + 0.5) * width / _COLUMNS).astype(int)
    rows = picture[[height // 4, height * 3 // 4]][:, xs, 1] > 127
    number, check = (int("".join("1" if bit else "0" for bit in row), 2) for row in rows)
    assert check == _check(number), "the picture shows no barcode"
    return number


def _bits(value: int) -> list[int]:
    return [(value >> shift) & 1 for shift in reversed(range(_COLUMNS))]


def _check(number: int) -> int:
    return (number * 37 + 101) % 256


@dataclass(frozen=True)
class Recipe:
    """How a test video is made. `durations`: milliseconds from each frame to the next, repeated as needed."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    frames: int = 40
    gop: int = 10
    b_frames: int = 0
    open_gop: bool = False
    durations: tuple[int, ...] = (40,)
    rotation: int = 0
    width: int = WIDTH
    height: int = HEIGHT

    def timestamps(self) -> list[int]:
        """Milliseconds of each frame."""
        steps = [self.durations[i % len(self.durations)] for i in range(self.frames - 1)]
        return [sum(steps[:i]) for i in range(self.frames)]


_OPTIONS: Final = {
    "libx264": {"preset": "ultrafast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "crf": "18"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "2M"},
    "libsvtav1": {"preset": "8", "crf": "20"},
    "mpeg4": {"qscale": "3", "b": "4M"},
    "mpeg2video": {"b": "6M"},
}


def _options(recipe: Recipe) -> dict[str, str]:
    options = {**_OPTIONS.get(recipe.codec, {}), "g": str(recipe.gop), "threads": "1"}
    gop = f"open-gop={int(recipe.open_gop)}:scenecut=0:keyint={recipe.gop}:min-keyint=1"
    if recipe.codec == "libx264":
        options |= {"bf": str(recipe.b_frames), "x264-params": gop}
    elif recipe.codec == "libx265":
        options |= {"x265-params": f"{gop}:bframes={recipe.b_frames}:log-level=none:pools=none"}
    elif recipe.codec == "mpeg4":
        options |= {"bf": str(recipe.b_frames)}
    return options


def make_video(folder: Path, recipe: Recipe = Recipe(), name: str = "video") -> Path:
    """A video whose frame n (from 1) shows `barcode(n)`."""
    path = folder / f"{name}{recipe.suffix}"
    with av.open(str(path), "w") as container:
        # 25 pictures a second for the codecs that know no other rate, milliseconds for the rest.
        rate = 25 if recipe.codec in {"mpeg4", "mpeg2video", "libsvtav1"} else 1000
        stream = container.add_stream(recipe.codec, rate=rate, options=_options(recipe))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, "yuv420p"
        if rate == 1000:
            stream.codec_context.time_base = _TIME_BASE
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        container.start_encoding()
        for number, milliseconds in enumerate(recipe.timestamps(), 1):
            frame = VideoFrame.from_ndarray(barcode(number, recipe.width, recipe.height))
            frame.pts = milliseconds * rate // 1000 if rate == 1000 else number - 1
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_audio(path: Path) -> Path:
    """One second of silence, no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source: Path, target: Path, shift: int = 0, *, options: dict[str, str] | None = None) -> Path:
    """Copy the video packets; timestamps are moved back by `shift` time base units (negative ones: an edit list)."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                write.mux(packet)
    return target


@dataclass(frozen=True)
class Reference:
    """A frame as a plain decode of the whole file presents it."""

    pts: int | None
    timestamp: float | None
    shown: int


def full_decode(path: Path) -> list[Reference]:
    """Every frame, by PyAV's plain loop from start to end."""
    with av.open(str(path)) as container:
        return [
            Reference(
                frame.pts, frame.time, read_barcode(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            )
            for frame in container.decode(video=0)
        ]


def damage_packets(path: Path, indices: Sequence[int]) -> None:
    """Overwrite the packets (in file order, from 0) with bytes that no decoder takes."""
    with av.open(str(path)) as container:
        payloads = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for index in indices:
        at = data.index(payloads[index])
        data[at : at + len(payloads[index])] = b"\xff" * len(payloads[index])
    path.write_bytes(data)


def make_header(path: Path, width: int, height: int) -> Path:
    """A YUV4MPEG file that announces pictures of this size and holds none of that size."""
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 Ip C420jpeg\nFRAME\n".encode() + b"\x80" * 1000)
    return path
