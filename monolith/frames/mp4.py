"""Pictures as MP4: each is shown from its own time on, whatever the distance to the next."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import msgspec
from av.codec.context import Flags
from av.video.stream import VideoStream

from monolith.frames.jpeg import Picture

_LONGEST_GAP: Final = 6 * 3600.0
"""Seconds from one picture to the next: with much more a duration in the file would overflow."""
_SLOWEST: Final = Fraction(1, 1000)
_FASTEST: Final = Fraction(1000)
_MOST_THREADS: Final = 4
_RATE_LIMIT: Final = 1001


class NoEncoderError(Exception):
    """This installation can encode none of the formats that MP4 players know."""


class _Encoder(msgspec.Struct, frozen=True):
    name: str
    options: dict[str, str]
    time_base: Fraction
    """MPEG-4 Part 2 counts at most 65,535 ticks a second."""


_ENCODERS: Final = (
    _Encoder("libx264", {"preset": "veryfast", "crf": "20", "g": "60", "bf": "0"}, Fraction(1, 90_000)),
    _Encoder("libopenh264", {"g": "60", "rc_mode": "quality"}, Fraction(1, 90_000)),
    _Encoder("mpeg4", {"qscale": "3", "g": "60"}, Fraction(1, 60_000)),
)
"""The first one that works is taken. On 720p `veryfast` is 2.5 times as fast as `fast` and its files are no larger.
No B-frames: with pictures at uneven distances the muxer would take the length of the file from their decoding times."""


class Mp4Writer:
    """Writes one file: `write`…, `finish`; leaving the context closes it. Blocks: for a thread or a process.

    `width`, `height`: even, pixels; `rate`: the usual number of pictures a second, which says how long the last one is
    shown. The index comes first in the file, so that it plays while it is being fetched. Raises OSError (av's errors
    among them), NoEncoderError.
    """

    def __init__(self, path: Path, width: int, height: int, rate: float) -> None:
        self._path = path
        self._usual = 1 / bounded_rate(rate)
        encoder = _usable_encoder(width, height)
        self._time_base = encoder.time_base
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._add_stream(encoder, width, height, bounded_rate(rate))
        self._waiting: av.VideoFrame | None = None
        self._last_seconds = 0.0
        self._skipped = 0.0
        self.codec = encoder.name
        self.frames = 0

    def _add_stream(self, encoder: _Encoder, width: int, height: int, rate: Fraction) -> VideoStream:
        stream = self._container.add_stream(encoder.name, rate=rate, options=encoder.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = encoder.time_base
        stream.codec_context.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
        stream.codec_context.flags |= Flags.frame_duration
        return stream

    def write(self, picture: Picture, seconds: float) -> None:
        """`picture` is shown from `seconds` (≥ 0) on; one that is not later than the one before comes right after it.

        Gaps beyond six hours are cut to that.
        """
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        gap = seconds - self._last_seconds
        self._skipped += max(0.0, gap - _LONGEST_GAP)
        self._last_seconds = seconds
        frame.time_base = self._time_base
        frame.pts = round((seconds - self._skipped) / self._time_base)
        if self._waiting is not None:
            assert self._waiting.pts is not None
            frame.pts = max(frame.pts, self._waiting.pts + 1)
            self._encode(self._waiting, frame.pts - self._waiting.pts)
        self._waiting = frame

    def _encode(self, frame: av.VideoFrame, duration: int) -> None:
        frame.duration = duration
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> float:
        """Write what is left and close the file; the time in seconds at which the last picture ends."""
        end = 0.0
        if self._waiting is not None:
            assert self._waiting.pts is not None
            duration = max(1, round(self._usual / self._time_base))
            end = float((self._waiting.pts + duration) * self._time_base)
            self._encode(self._waiting, duration)
            self._waiting = None
            self._container.mux(self._stream.encode(None))
        self._container.close()
        return end

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()


def bounded_rate(rate: float) -> Fraction:
    """A number of pictures a second that encoders take."""
    return min(_FASTEST, max(_SLOWEST, Fraction(rate).limit_denominator(_RATE_LIMIT)))


def _usable_encoder(width: int, height: int) -> _Encoder:
    for encoder in _ENCODERS:
        try:
            context = av.CodecContext.create(encoder.name, "w")
            assert isinstance(context, av.VideoCodecContext)
            context.width, context.height, context.pix_fmt = width, height, "yuv420p"
            context.time_base, context.options = encoder.time_base, dict(encoder.options)
            context.open()
        except (av.FFmpegError, ValueError):
            continue
        return encoder
    names = ", ".join(encoder.name for encoder in _ENCODERS)
    raise NoEncoderError(
        f"this installation of FFmpeg can encode no video: none of {names} works at {width}×{height}"
    )
