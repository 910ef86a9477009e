"""What an RTMP publisher sends → live packets."""

from __future__ import annotations

import logging
from typing import Final

from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.protocols.errors import ProtocolError
from monolith.protocols.flv import VideoConfig, VideoFrame, parse_video

_TICKS: Final = CLOCK_RATE // 1000
"""In a millisecond, the unit of RTMP's times."""
_SELF_CONTAINED: Final = frozenset({"vp8"})
"""Codecs that need no configuration."""
_MOST_CONFIGURATION: Final = 64 << 10
"""Bytes. Real ones have some hundred."""

logger = logging.getLogger(__name__)


class PacketMaker:
    """Of one publish. `passed_over`: pictures that came before their configuration."""

    def __init__(self) -> None:
        self.passed_over = 0
        self._format: VideoFormat | None = None
        self._shift = 0
        self._last: int | None = None

    def packet(self, data: bytes, timestamp_ms: int, arrived: float) -> LivePacket | None:
        """Of the body of a video message; None where it holds no picture. `arrived`: Unix seconds.

        Raises ProtocolError, UnsupportedError.
        """
        match parse_video(data, timestamp_ms):
            case VideoConfig() as config:
                if len(config.extradata) > _MOST_CONFIGURATION:
                    raise ProtocolError(
                        f"a configuration of {config.codec} with {len(config.extradata)} bytes; there may be "
                        f"{_MOST_CONFIGURATION}"
                    )
                self._take(VideoFormat(config.codec, config.extradata))
            case VideoFrame() as frame:
                return self._made(frame, arrived)
        return None

    def _take(self, video: VideoFormat) -> None:
        """Publishers repeat it: what is equal is no change."""
        if video != self._format:
            self._format = video

    def _made(self, frame: VideoFrame, arrived: float) -> LivePacket | None:
        if frame.codec in _SELF_CONTAINED:
            self._take(VideoFormat(frame.codec))
        if self._format is None or self._format.codec != frame.codec:
            if not self.passed_over:
                logger.warning(
                    "pictures by RTMP are passed over: no configuration of %s came before them", frame.codec
                )
            self.passed_over += 1
            return None
        dts = self._decoding_time(frame.dts_ms)
        pts = dts + frame.composition_ms * _TICKS
        return LivePacket(self._format, frame.data, pts, dts, frame.keyframe, arrived)

    def _decoding_time(self, milliseconds: int) -> int:
        """In ticks; it never goes back: what a publisher's clock jumps back by is added from then on."""
        dts = milliseconds * _TICKS + self._shift
        if self._last is not None and dts < self._last:
            self._shift += self._last + _TICKS - dts
            dts = self._last + _TICKS
        self._last = dts
        return dts
