"""Opening local video files and reading packets and pictures from them. Runs in decoder processes only.

A file may lie about what it is. So: only the `file` protocol, only demuxers that read one file and nothing else
(no playlists, no lists of files, no filter graphs), and caps on dimensions before anything is decoded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monolith.domain.segment import SourcePosition
from monolith.ingest.errors import SourceError
from monolith.ingest.unreadable import explain_unreadable

DEMUXERS: Final = (
    "mov", "matroska", "mpegts", "flv", "avi", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "ivf", "obu",
    "ogg", "asf", "mxf", "nut", "dv", "rm", "wtv", "gif", "mjpeg", "yuv4mpegpipe", "h263", "vc1", "av1",
)  # fmt: skip
"""Demuxers that read pictures from the one file they were given. Never: hls, dash, concat, image2, lavfi, sdp…"""

CONTAINERS_IN_WORDS: Final = "MP4, MOV, MKV, WebM, MPEG-TS, FLV, AVI, Ogg, ASF, MXF"
_MAX_ERRORS_IN_A_ROW: Final = 64
_READING: Final = (OSError, av.error.ExitError)
"""Errors that are not of the data: FFmpeg's own for what it reads from are OSErrors; an interrupt is an exit."""
_MAX_THREADS: Final = 4
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True)
class Limits:
    """Greatest picture that is decoded: pixels of a side, pixels of a picture."""

    side: int = 16_384
    pixels: int = 1 << 27


LIMITS: Final = Limits()


@dataclass
class OpenVideo:
    """An open file and its best video stream. `damaged`: packets that could not be read or decoded so far; `failure`:
    what ended the input before its end; `goes_on`: its timestamps go on from those of the input before; `arrived`: when
    its first picture came, in Unix seconds, where it was not just now; `offset`: bytes of its source that came before
    it, about; `lost`: pictures that came before it, and were not handed over."""

    container: InputContainer
    stream: VideoStream
    damaged: int = 0
    last_error: str = field(default="")
    failure: av.error.FFmpegError | None = None
    goes_on: bool = False
    arrived: float | None = None
    offset: int = 0
    lost: int = 0

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The stream's packets in their order, then one empty packet (flush). What cannot be demuxed is counted and
        passed over, a number of times in a row; where reading fails (the disk, a connection, a timeout) there is no
        more: that is counted, too, and kept as `failure`."""
        in_a_row = 0
        while in_a_row < _MAX_ERRORS_IN_A_ROW:
            try:
                for packet in self.container.demux(self.stream):
                    in_a_row = 0
                    yield packet
                return
            except (av.error.FFmpegError, ValueError) as error:
                in_a_row += 1
                self.damage(error)
                if isinstance(error, av.error.FFmpegError) and isinstance(error, _READING):
                    self.failure = error
                    return

    def pictures(self, packets: Iterator[Packet[VideoStream]] | None = None) -> Iterator[VideoFrame]:
        """Decoded pictures in presentation order. Damaged packets are counted and passed over."""
        for packet in self.packets() if packets is None else packets:
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError) as error:
                self.damage(error)

    def position_of(self, picture: VideoFrame) -> SourcePosition | None:
        """Where the source can be taken up again behind `picture`, one of the newest pictures; None: nowhere."""
        return None

    def age_of(self, picture: VideoFrame) -> float:
        """How many seconds before what is newest in the source `picture` is, where that is known to be more than 0."""
        return 0.0 if self.arrived is None else max(0.0, time.time() - self.arrived)

    def damage(self, error: Exception) -> None:
        """Count a packet that could not be read or decoded."""
        self.damaged += 1
        self.last_error = getattr(error, "strerror", None) or str(error)

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(path: Path, limits: Limits = LIMITS) -> OpenVideo:
    """Open `path` and choose its video stream. Raises SourceError."""
    if path.exists() and not path.is_file():
        raise SourceError(f"{path.name} is no regular file: submit a video file")
    container = _open_container(path, limits)
    try:
        return OpenVideo(container, choose_stream(container, limits))
    except BaseException:
        container.close()
        raise


def choose_stream(container: InputContainer, limits: Limits = LIMITS) -> VideoStream:
    """The best video stream, set to be decoded within `limits` by several threads. Raises SourceError."""
    stream = _best_stream(container)
    check_dimensions(stream.width, stream.height, limits)
    stream.codec_context.options = {"max_pixels": pixel_option(limits)}
    stream.thread_type = "AUTO"
    stream.thread_count = min(_MAX_THREADS, os.cpu_count() or 1)
    return stream


def check_dimensions(width: int, height: int, limits: Limits = LIMITS) -> None:
    """Raises SourceError."""
    if width < 1 or height < 1:
        raise SourceError(
            "the video stream does not say how large its pictures are: it is damaged, or its codec is unknown"
        )
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise SourceError(
            f"pictures of {width}×{height} are too large: at most {limits.side} pixels a side"
            f" and {limits.pixels} pixels a picture"
        )


def pixel_option(limits: Limits) -> str:
    """FFmpeg's `max_pixels`."""
    return str(limits.pixels + limits.pixels // 8)  # coded sizes are rounded up to whole macroblocks


def _open_container(path: Path, limits: Limits) -> InputContainer:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(DEMUXERS),
        "max_pixels": pixel_option(limits),
    }
    try:
        container = av.open(f"file:{path.absolute()}", "r", options=options, metadata_errors="replace")
    except (av.error.FileNotFoundError, av.error.PermissionError, av.error.IsADirectoryError) as error:
        raise SourceError(f"the video file cannot be opened: {error.strerror}") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise SourceError(explain_unreadable(path, CONTAINERS_IN_WORDS)) from error
    return container


def _best_stream(container: InputContainer) -> VideoStream:
    streams = container.streams.video
    moving = [stream for stream in streams if not stream.disposition & _COVER]
    if not moving:
        raise SourceError(_no_video(container, covers=len(streams)))
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if not decodable:
        raise SourceError("the codec of the video stream is not supported: use H.264, HEVC, VP8, VP9 or AV1")
    return max(
        decodable, key=lambda stream: (_is_default(stream), stream.width * stream.height, -stream.index)
    )


def _is_default(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _no_video(container: InputContainer, *, covers: int) -> str:
    kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
    there = [*kinds, *(["cover art"] if covers else [])]
    return (
        f"the file has no video stream (it has: {', '.join(there) or 'nothing'}): submit a file with pictures"
    )
