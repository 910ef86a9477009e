"""Encoded pictures out of aiortc, before it decodes them.

The one place that reaches into aiortc's receiver: its jitter buffer is replaced by ours, which hands pictures on by
itself and gives aiortc none. So nothing is decoded in this process and nothing waits in aiortc's unbounded queues; the
receiver goes on with RTCP (reports, NACK, REMB), and sends a PLI where our buffer says so, as it does for its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.rtp import RtpPacket

from monolith.live.packets import Codec, LivePacket
from monolith.live.webrtc.assembly import Assembler
from monolith.live.webrtc.pictures import PicturePacker, Times, is_h264_keyframe, is_vp8_keyframe

_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"
_CODECS: Final[dict[str, Codec]] = {"VP8": "vp8", "H264": "h264"}
_KEYFRAME: Final[Mapping[Codec, Callable[[bytes], bool]]] = {
    "vp8": is_vp8_keyframe,
    "h264": is_h264_keyframe,
}
_SENDER_SILENT: Final = 2.0
"""After so many seconds another sender (SSRC) of the same track is listened to."""


class PictureBuffer:
    """Takes the place of a video receiver's buffer. `sink` gets each picture as soon as it is whole.

    `codecs`: by payload type. `bytes`: of all tracks of the peer. `picture_at`: when the last picture came, by the
    monotonic clock.
    """

    def __init__(self, codecs: Mapping[int, Codec], sink: Callable[[LivePacket], None]) -> None:
        self._codecs = codecs
        self._sink = sink
        self._sender: tuple[int, int] | None = None
        self._heard_at = 0.0
        self._assembler: Assembler | None = None
        self._packer: PicturePacker | None = None
        self._times = Times()
        self.picture_at = time.monotonic()
        self.bytes = self.pictures = self.asked = 0
        self._lost = self._broken = 0

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return self._lost + (self._assembler.lost if self._assembler else 0)

    @property
    def broken(self) -> int:
        """Pictures that were dropped, since a part of them or before them never came."""
        return self._broken + (self._assembler.broken if self._assembler else 0)

    def want_keyframe(self) -> None:
        if self._assembler is not None:
            self._assembler.want_keyframe()

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """For aiortc: whether to ask for a keyframe; never a picture to decode."""
        now = time.monotonic()
        self.bytes += len(packet.payload)
        if not self._listens_to(packet, now):
            return False, None
        assert self._assembler is not None and self._packer is not None
        for picture in self._assembler.add(_Depayloaded(packet), now):
            live = self._packer.pack(picture, time.time())
            if live is None:
                self._assembler.want_keyframe()
                continue
            self.pictures += 1
            self.picture_at = now
            self._sink(live)
        asks = self._assembler.asks(now)
        self.asked += asks
        return asks, None

    def _listens_to(self, packet: RtpPacket, now: float) -> bool:
        """One sender at a time, and one codec; another one is listened to when the first is silent, or changes."""
        sender = (packet.ssrc, packet.payload_type)
        if sender != self._sender:
            if self._sender and packet.ssrc != self._sender[0] and now - self._heard_at < _SENDER_SILENT:
                return False
            codec = self._codecs.get(packet.payload_type)
            if codec is None:
                return False
            self._begin(codec)
            self._sender = sender
        self._heard_at = now
        return True

    def _begin(self, codec: Codec) -> None:
        self._lost, self._broken = self.lost, self.broken
        self._assembler = Assembler(_KEYFRAME[codec])
        self._times.begin_anew()
        self._packer = PicturePacker(codec, self._times)


class Discard:
    """Takes the place of a buffer whose packets nobody needs: sound, and further pictures. They are counted."""

    def __init__(self, counted: PictureBuffer) -> None:
        self._counted = counted

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """For aiortc: no keyframe to ask for, no picture to decode."""
        self._counted.bytes += len(packet.payload)
        return False, None


def tap(peer: RTCPeerConnection, sink: Callable[[LivePacket], None]) -> PictureBuffer:
    """Hand the pictures of the first video track of `peer` to `sink`; the other tracks are thrown away as they come.

    After the offer is taken, before the answer is. Raises LookupError where there is no video track.
    """
    transceivers = peer.getTransceivers()
    video = next(
        (one for one in transceivers if one.kind == "video" and one.receiver.track is not None), None
    )
    if video is None:
        raise LookupError("the peer sends no video track")
    known = [one for one in video._codecs if one.name in _CODECS]
    codecs = {one.payloadType: _CODECS[one.name] for one in known if one.payloadType is not None}
    pictures = PictureBuffer(codecs, sink)
    for transceiver in transceivers:
        _replace_buffer(transceiver.receiver, pictures if transceiver is video else Discard(pictures))
    return pictures


def _replace_buffer(receiver: RTCRtpReceiver, buffer: PictureBuffer | Discard) -> None:
    if not hasattr(receiver, _BUFFER):
        raise RuntimeError("this version of aiortc keeps its packets elsewhere; the locked one is needed")
    setattr(receiver, _BUFFER, buffer)


class _Depayloaded:
    """What the assembler needs of aiortc's packet: numbers, and the payload without its packetisation."""

    __slots__ = ("data", "marker", "sequence_number", "timestamp")

    def __init__(self, packet: Any) -> None:
        self.sequence_number: int = packet.sequence_number
        self.timestamp: int = packet.timestamp
        self.marker: int = packet.marker
        self.data: bytes = packet._data
