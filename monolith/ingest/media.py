"""Bytes that come from somewhere → a demuxer that can open nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from monolith.ingest.errors import SourceError
from monolith.ingest.reader import LIMITS, Limits, OpenVideo, choose_stream, open_video, pixel_option
from monolith.ingest.transport_stream import TransportParts

STREAMABLE: Final = (
    "mpegts", "flv", "mov", "matroska", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "obu", "ivf", "ogg", "asf",
    "mjpeg", "mpjpeg", "yuv4mpegpipe", "nut",
)  # fmt: skip
"""Demuxers that can read from the start on, without a seek."""
READ_AS_IT_ARRIVES: Final = ("mpegts", "flv")
"""Of these, files whose length is known are not brought here as a whole first (see `transport_for`)."""
_ANALYSE_MICROSECONDS: Final = 2_000_000
_PROBE_BYTES: Final = 4 << 20
_LITTLE_BYTES: Final = 32_768


class Feed:
    """The file object that a demuxer reads from. It hands out what `read` gives; what `read` raises is kept as
    `failure`, and looks like the end of the data from inside FFmpeg, which knows nothing of our errors."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        if self.failure is not None:
            return b""
        try:
            return self._read(size)
        except Exception as error:
            self.failure = error
            return b""

    def check(self) -> None:
        """Raises what reading raised."""
        if self.failure is not None:
            raise self.failure


def open_feed(
    feed: Feed,
    demuxers: tuple[str, ...],
    *,
    live: bool,
    demuxer: str | None = None,
    at_once: bool = False,
    limits: Limits = LIMITS,
) -> OpenVideo:
    """The video in what `feed` gives. `demuxers`: those that may be chosen; `demuxer`: the one to be taken, where it
    cannot be told by the first bytes; `at_once`: nothing is read ahead to find out more. Raises what `feed`
    raised, or SourceError."""
    options = {
        "format_whitelist": ",".join(demuxers),
        "protocol_whitelist": "none",
        "max_pixels": pixel_option(limits),
        "probesize": str(_PROBE_BYTES),
        "analyzeduration": str(_ANALYSE_MICROSECONDS),
        "fpsprobesize": "0",
    }
    if at_once:
        options |= {"probesize": str(_LITTLE_BYTES), "analyzeduration": "0"}
    try:
        container = av.open(
            feed, "r", format=demuxer, options=options, metadata_errors="replace", io_open=_open_nothing
        )
    except (av.error.FFmpegError, ValueError) as error:
        feed.check()
        raise SourceError(
            f"what the server sends is not a video that can be read, or is damaged ({_words(error)})",
            permanent=not live,
        ) from error
    return opened(container, live=live, limits=limits)


def inputs_of(
    read: Callable[[int], bytes],
    demuxers: tuple[str, ...],
    *,
    live: bool,
    demuxer: str | None = None,
) -> Generator[OpenVideo, None, None]:
    """The video in what `read` gives, its parts one after another: where the video of a transport stream changes to
    another codec, a new demuxer and decoder begin. Raises what `read` raised, or SourceError."""
    parts = TransportParts(read)
    goes_on = False
    while not goes_on or parts.next_part():
        feed, before = Feed(parts.read), parts.given
        with open_feed(feed, demuxers, live=live, demuxer=demuxer) as video:
            parts.chosen = video.stream.id
            video.goes_on, video.offset = goes_on, before
            yield video
        feed.check()
        goes_on = True


def inputs_of_file(path: Path) -> Generator[OpenVideo, None, None]:
    """The same of a local file. What can be followed over HTTP before all of it is there is read in the same way, so
    that it gives the same pictures with the same timestamps. Raises SourceError, OSError."""
    with open_video(path) as video:
        demuxer = video.container.format.name
        if demuxer not in READ_AS_IT_ARRIVES:
            yield video
            return
    with path.open("rb") as file:
        yield from inputs_of(file.read, (demuxer,), live=False)


def opened(container: InputContainer, *, live: bool, limits: Limits = LIMITS) -> OpenVideo:
    """The best video stream of `container`, ready to be decoded: with as little delay as can be where it is live, else
    with all cores. Closes the container where it raises SourceError."""
    try:
        stream = choose_stream(container, limits)
        if live:
            stream.thread_type, stream.thread_count = "SLICE", 1
    except BaseException:
        container.close()
        raise
    return OpenVideo(container, stream)


def _open_nothing(url: str, flags: int, options: object) -> object:
    """Playlists, references to other files, keys: a demuxer gets nothing but its feed."""
    raise PermissionError("nothing may be opened from inside the video")


def own_timestamp(picture: VideoFrame) -> float | None:
    """Seconds as the source has them: pts × time base; None where it has none."""
    return float(picture.pts * picture.time_base) if picture.pts is not None and picture.time_base else None


def frame_rate(video: OpenVideo) -> float | None:
    """Pictures per second as the source says, None where it says nothing that could be."""
    said = video.stream.average_rate
    return float(said) if said and 0.01 <= said <= 1000 else None


def _words(error: Exception) -> str:
    """Without the file name, which may be a URL with a password."""
    return getattr(error, "strerror", None) or type(error).__name__
