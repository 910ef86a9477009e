"""Which codecs really work: `python -m monolith.doctor.codecs` makes a tiny video in each and decodes it again.

A process of its own, since a codec that crashes must be a finding. One JSON line for each codec, as soon as it is
known; before it is tried its name alone.
"""

from __future__ import annotations

import io
import sys
from typing import Final

import av
import msgspec
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.stream import VideoStream

FRAMES: Final = 4
_SIZE: Final = 64
_BRIGHT: Final = 200
_TOLERANCE: Final = 24

ENCODERS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "H.264": ("h264", ("libx264", "libopenh264"), "mp4"),
    "HEVC": ("hevc", ("libx265",), "mp4"),
    "VP8": ("vp8", ("libvpx",), "webm"),
    "VP9": ("vp9", ("libvpx-vp9",), "webm"),
    "AV1": ("av1", ("libsvtav1", "libaom-av1", "librav1e"), "mp4"),
    "MPEG-4": ("mpeg4", ("mpeg4",), "mp4"),
    "MPEG-2": ("mpeg2video", ("mpeg2video",), "matroska"),
    "MJPEG": ("mjpeg", ("mjpeg",), "matroska"),
}
"""Name for people → decoder, encoders that may be there, and a container that takes it."""

_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


class CodecState(msgspec.Struct, frozen=True, kw_only=True):
    """`encoder`: the one that was used, "" where there is none; `error`: why pictures did not come back, "" where
    they did or could not be made."""

    name: str
    tried: bool = False
    decodes: bool = False
    encoder: str = ""
    error: str = ""


def examine(name: str) -> CodecState:
    decoder, encoders, container = ENCODERS[name]
    encoder = next((one for one in encoders if _exists(one, "w")), "")
    if not _exists(decoder, "r"):
        return CodecState(name=name, tried=True, encoder=encoder, error="there is no decoder")
    if not encoder:
        return CodecState(name=name, tried=True, decodes=True)
    try:
        error = _flaw(_decoded(_encoded(encoder, container)))
    except (av.error.FFmpegError, OSError, ValueError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return CodecState(name=name, tried=True, decodes=not error, encoder=encoder, error=error)


def _exists(name: str, mode: str) -> bool:
    try:
        Codec(name, "r" if mode == "r" else "w")
    except UnknownCodecError:
        return False
    return True


def _encoded(encoder: str, container: str) -> bytes:
    """A bright picture, over and over."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=25, options=_OPTIONS.get(encoder, {}))
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = _SIZE
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        picture = np.full((_SIZE, _SIZE, 3), _BRIGHT, np.uint8)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def _decoded(data: bytes) -> list[float]:
    """The mean of each picture, 0–255."""
    with av.open(io.BytesIO(data), "r") as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


def _flaw(means: list[float]) -> str:
    if len(means) != FRAMES:
        return f"of {FRAMES} pictures {len(means)} came back"
    if any(abs(mean - _BRIGHT) > _TOLERANCE for mean in means):
        return "the pictures came back changed"
    return ""


def main() -> None:
    for name in ENCODERS:
        _tell(CodecState(name=name))
        _tell(examine(name))


def _tell(state: CodecState) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(state) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
