"""Live packets out of coded pictures as RTP carries them: H.264 between start codes (RFC 6184), VP8 (RFC 7741)."""

from __future__ import annotations

import struct
from typing import Final

from monolith.live.packets import CLOCK_RATE, Codec, LivePacket, VideoFormat
from monolith.live.webrtc.assembly import CodedPicture

_START: Final = b"\0\0\0\1"
_SLICE, _IDR, _SPS, _PPS, _DELIMITER, _FILLER = 1, 5, 7, 8, 9, 12
_MOST_PARAMETER_SETS: Final = 31
_TICKS: Final = 1 << 32
_JUMP: Final = 10 * CLOCK_RATE
"""A time that is so far from what the clock says is that of a sender that began anew."""


def is_vp8_keyframe(data: bytes) -> bool:
    """RFC 6386, section 9.1: the lowest bit is 0, and a start code follows."""
    return len(data) >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"


def is_h264_keyframe(data: bytes) -> bool:
    """From its beginning: an IDR picture, or the parameter sets of the one that comes next."""
    return data.startswith(_START) and any(unit[0] & 31 in (_IDR, _SPS) for unit in nal_units(data))


def nal_units(data: bytes) -> list[bytes]:
    """What stands between start codes."""
    return [unit for unit in data.split(_START) if unit]


def avc_configuration(sequence: list[bytes], pictures: list[bytes]) -> bytes:
    """`avcC` (ISO/IEC 14496-15) of H.264's parameter sets, NAL units with lengths of four bytes."""
    first = sequence[0]
    return b"".join(
        (
            b"\1" + first[1:4] + b"\xff",
            bytes((0xE0 | len(sequence),)),
            *(struct.pack(">H", len(one)) + one for one in sequence),
            bytes((len(pictures),)),
            *(struct.pack(">H", len(one)) + one for one in pictures),
        )
    )


def exp_golomb(data: bytes) -> int:
    """The unsigned number that `data` begins with (H.264, section 9.1); 65536 where there is none, or a larger one."""
    bits = int.from_bytes(data[:5].ljust(5, b"\0"))
    zeros = 40 - bits.bit_length()
    return (bits >> 40 - 2 * zeros - 1) - 1 if zeros <= 16 else 1 << 16


class Times:
    """RTP timestamps (32 bits) as ticks that never wrap, from 0 at the first picture.

    A sender whose times jump (it began anew, or lies) goes on where the clock stands.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._ticks = 0
        self._arrived: float | None = None

    def of(self, timestamp: int, arrived: float) -> int:
        """`arrived`: seconds of a clock that goes on."""
        passed = 0 if self._arrived is None else max(1, int((arrived - self._arrived) * CLOCK_RATE))
        if self._last is None:
            self._ticks += passed
        else:
            step = (timestamp - self._last) % _TICKS
            step -= _TICKS if step >= _TICKS // 2 else 0
            self._ticks += step if -CLOCK_RATE < step < passed + _JUMP else passed
        self._last, self._arrived = timestamp, arrived
        return max(0, self._ticks)

    def begin_anew(self) -> None:
        """The next timestamp is of another sender."""
        self._last = None


class PicturePacker:
    """Live packets of one sender, in the order of its pictures. A new format where H.264's parameter sets change."""

    def __init__(self, codec: Codec, times: Times) -> None:
        assert codec in ("h264", "vp8"), codec
        self._codec = codec
        self._format = VideoFormat("vp8")
        self._times = times
        self._dts = 0
        self._sets: dict[int, dict[int, bytes]] = {_SPS: {}, _PPS: {}}

    def pack(self, picture: CodedPicture, now: float) -> LivePacket | None:
        """None: there is no picture in it. `now`: Unix seconds."""
        if self._codec == "vp8":
            data, keyframe = picture.data, is_vp8_keyframe(picture.data)
        else:
            data, keyframe = self._h264(picture.data)
        if not data:
            return None
        pts = self._times.of(picture.timestamp, picture.arrived)
        self._dts = max(self._dts, pts)
        return LivePacket(self._format, data, pts, self._dts, keyframe, now)

    def _h264(self, data: bytes) -> tuple[bytes, bool]:
        """Slices and what belongs to them behind their lengths; parameter sets go into the format."""
        keyframe = False
        kept = []
        units = nal_units(data)
        kinds = [unit[0] & 31 for unit in units]
        if _SPS in kinds:
            self._sets = {_SPS: {}, _PPS: {}}
        for unit, kind in zip(units, kinds, strict=True):
            if kind in self._sets:
                self._remember(self._sets[kind], unit, kind)
            elif kind not in (_DELIMITER, _FILLER):
                kept.append(struct.pack(">I", len(unit)) + unit)
                keyframe |= kind == _IDR
        self._renew()
        has_picture = any(_SLICE <= kind <= _IDR for kind in kinds)
        return b"".join(kept) if has_picture and self._format.configuration else b"", keyframe

    def _remember(self, sets: dict[int, bytes], unit: bytes, kind: int) -> None:
        """Sets of one number replace each other."""
        if 4 <= len(unit) < 1 << 16:
            number = exp_golomb(unit[1:] if kind == _PPS else unit[4:])
            if number < _MOST_PARAMETER_SETS:
                sets[number] = unit

    def _renew(self) -> None:
        sequence, pictures = (list(self._sets[kind].values()) for kind in (_SPS, _PPS))
        if not sequence or not pictures:
            return
        configuration = avc_configuration(sequence, pictures)
        if configuration != self._format.configuration or self._format.codec != "h264":
            self._format = VideoFormat("h264", configuration)
