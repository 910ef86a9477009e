"""An encoder process: `python -m monolith.live.playback.encoder LINK_FD PARENT_PID`.

It decodes one live source and encodes it once, for all viewers who cannot have its packets as they are.
"""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from fractions import Fraction
from typing import Any, Final

import av
import cv2
import msgspec
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from monolith.child import ParentGoneError, ParentLink, die_with_parent, log_to_parent
from monolith.domain.detection import Detection
from monolith.frames.annotate import annotate
from monolith.frames.letterbox import even_canvas, scaled_detection
from monolith.ingest.errors import SourceError
from monolith.ingest.reader import Limits, check_dimensions, pixel_option
from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.live.playback.clock import milliseconds
from monolith.live.playback.messages import (
    Begin,
    Decode,
    Encoded,
    Failed,
    Found,
    FromEncoder,
    Keyframe,
    Started,
    Taken,
    ToEncoder,
)

_NICENESS: Final = 5
_LARGEST: Final = Limits(side=8192, pixels=1 << 25)
"""Live pictures that are decoded for viewers: 8K. A packet may claim more than it holds."""
_TICK: Final = Fraction(1, CLOCK_RATE)
_GROUP_TICKS: Final = 2 * CLOCK_RATE
_BITS_PER_PIXEL: Final = 0.1
_NOMINAL_RATE: Final = 30
_LEAST_BITRATE: Final = 500_000
_SHOWN_MILLISECONDS: Final = 1000
"""So long a box stays where nothing newer is known."""
_KEPT_RESULTS: Final = 64
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(ToEncoder)

_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "h264": {
        "preset": "superfast",
        "tune": "zerolatency",
        "crf": "23",
        "forced-idr": "1",
        "x264-params": "keyint=infinite:scenecut=0:repeat-headers=1:annexb=1",
    },
    "vp8": {
        "deadline": "realtime",
        "cpu-used": "8",
        "lag-in-frames": "0",
        "error-resilient": "1",
        "auto-alt-ref": "0",
    },
}
_DECODERS: Final[dict[str, tuple[str, dict[str, str]]]] = {"av1": ("libdav1d", {"max_frame_delay": "1"})}
"""Name and options. FFmpeg's own decoder of AV1 needs hardware; other codecs' decoders are named as they are."""
_ENCODERS: Final = {"h264": "libx264", "vp8": "libvpx"}


class Boxes:
    """What models found lately, to be drawn into the pictures that it was found in and those right after them."""

    def __init__(self) -> None:
        self._found: dict[str, OrderedDict[int, Found]] = {}

    def add(self, found: Found) -> None:
        results = self._found.setdefault(found.model, OrderedDict())
        results[found.milliseconds] = found
        if len(results) > _KEPT_RESULTS:
            results.popitem(last=False)

    def at(self, source_milliseconds: int, height: int) -> list[Detection]:
        """Of each model the newest results up to this time, boxes in pixels of a picture `height` high."""
        shown: list[Detection] = []
        for results in self._found.values():
            times = [time for time in results if time <= source_milliseconds]
            newest = max(times, default=None)
            if newest is not None and source_milliseconds - newest <= _SHOWN_MILLISECONDS:
                found = results[newest]
                shown += [scaled_detection(one, height / found.height) for one in found.detections]
        return shown


class Decoder:
    """Pictures of live packets; their pts are the packets'."""

    def __init__(self) -> None:
        self._format: VideoFormat | None = None
        self._context: VideoCodecContext | None = None

    def pictures(self, packet: LivePacket) -> list[VideoFrame]:
        """Raises FFmpegError."""
        if packet.format != self._format:
            self._context = _decoder_of(packet.format)
            self._format = packet.format
        assert self._context is not None
        coded = Packet(packet.data)
        coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, _TICK
        return self._context.decode(coded)


def _decoder_of(video: VideoFormat) -> VideoCodecContext:
    name, options = _DECODERS.get(video.codec, (video.codec, {}))
    context: Any = av.CodecContext.create(name, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = {"max_pixels": pixel_option(_LARGEST), **options}
    if video.configuration:
        context.extradata = video.configuration
    context.thread_type = "SLICE"
    return context


class PictureEncoder:
    """Pictures of any size as packets without delay; a change of size begins anew."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._context: VideoCodecContext | None = None
        self._keyframe_at: int | None = None
        self._last_pts = -1
        self._asked = False
        self.boxes = Boxes()

    def ask_keyframe(self) -> None:
        self._asked = True

    def encode(self, picture: VideoFrame) -> list[Packet[Any]]:
        """Raises FFmpegError, SourceError."""
        check_dimensions(picture.width, picture.height, _LARGEST)
        pts = picture.pts or 0
        if pts <= self._last_pts and self._context is not None:
            self._context = None
        width, height = self._size(picture)
        if self._context is None or (self._context.width, self._context.height) != (width, height):
            self._context = _encoder_of(self._begin, width, height)
            self._asked = True
        scaled = self._drawn(picture, width, height)
        scaled.pts, scaled.time_base, scaled.pict_type = pts, _TICK, self._type(pts)
        self._last_pts = pts
        return self._context.encode(scaled)

    def _size(self, picture: VideoFrame) -> tuple[int, int]:
        scale = min(1.0, self._begin.max_height / picture.height)
        return even_canvas(round(picture.width * scale), round(picture.height * scale))

    def _drawn(self, picture: VideoFrame, width: int, height: int) -> VideoFrame:
        if not self._begin.overlay:
            return picture.reformat(width, height, "yuv420p")
        found = self.boxes.at(milliseconds(picture.pts or 0), height)
        rgb = np.asarray(picture.reformat(width, height, "rgb24").to_ndarray(), np.uint8)
        return VideoFrame.from_ndarray(annotate(rgb, found), "rgb24").reformat(format="yuv420p")

    def _type(self, pts: int) -> PictureType:
        due = self._keyframe_at is None or not 0 <= pts - self._keyframe_at < _GROUP_TICKS
        if self._asked or due:
            self._asked, self._keyframe_at = False, pts
            return PictureType.I
        return PictureType.NONE


def _encoder_of(begin: Begin, width: int, height: int) -> VideoCodecContext:
    codec = begin.codec
    context: Any = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(context, VideoCodecContext)
    bitrate = max(_LEAST_BITRATE, round(width * height * _NOMINAL_RATE * _BITS_PER_PIXEL))
    bitrate = min(bitrate, begin.most_bits or bitrate)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = _TICK, Fraction(_NOMINAL_RATE)
    options = dict(_OPTIONS[codec])
    if codec == "h264":
        context.profile = "Baseline"
        options |= {"maxrate": str(bitrate), "bufsize": str(bitrate)}
    else:
        context.bit_rate = bitrate
    context.options = options
    return context


class Encoder:
    """Does what the parent says until the link ends."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._decoder = Decoder()
        self._damage = ""

    def run(self) -> None:
        """Raises ParentGoneError."""
        self._say(Started(os.getpid()))
        begin = self._hear()
        assert isinstance(begin, Begin)
        encoder = PictureEncoder(begin)
        try:
            while True:
                match message := self._hear():
                    case Decode():
                        self._take(message.packet, begin, encoder)
                    case Found():
                        encoder.boxes.add(message)
                    case Keyframe():
                        encoder.ask_keyframe()
        except (FFmpegError, SourceError, MemoryError) as error:
            self._say(Failed(str(error) or type(error).__name__))

    def _take(self, packet: LivePacket, begin: Begin, encoder: PictureEncoder) -> None:
        late = 0
        for picture in self._pictures(packet):
            if time.time() - packet.arrived > begin.latest:
                late += 1
                continue
            for coded in encoder.encode(picture):
                assert coded.pts is not None
                self._say(Encoded(bytes(coded), coded.pts, coded.is_keyframe, packet.arrived))
        self._say(Taken(late, self._damage))

    def _pictures(self, packet: LivePacket) -> list[VideoFrame]:
        """None of a packet that cannot be decoded: the next keyframe mends it."""
        self._damage = ""
        try:
            return self._decoder.pictures(packet)
        except FFmpegError as error:
            self._damage = str(error) or type(error).__name__
            return []

    def _hear(self) -> ToEncoder:
        message: ToEncoder = _DECODER.decode(self._link.receive())
        return message

    def _say(self, message: FromEncoder) -> None:
        self._link.send(_ENCODE(message))


def main() -> None:
    link_fd, parent_pid = (int(argument) for argument in sys.argv[1:3])
    try:
        die_with_parent(parent_pid)
        log_to_parent()
        os.nice(_NICENESS)
        cv2.setNumThreads(1)
        Encoder(ParentLink(link_fd)).run()
    except ParentGoneError:
        sys.exit(0)


if __name__ == "__main__":
    main()
