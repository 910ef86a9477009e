"""What demuxers give → live packets' data and format.

Transport streams and RTP carry H.264 between start codes (Annex B), with parameter sets wherever they like. Viewers who
get packets as they are need them as an MP4 file has them, to see whether a browser can decode them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, get_args

from monolith.live.packets import Codec, VideoFormat
from monolith.live.webrtc.pictures import avc_configuration

CODECS: Final[dict[str, Codec]] = {name: name for name in get_args(Codec)}
_START: Final = b"\0\0\1"
_LONGEST_SET: Final = (1 << 16) - 1
_SHORTEST_SPS: Final = 4
_MOST_SETS: Final = 31
_IDR, _SPS, _PPS, _DELIMITER, _FILLER = 5, 7, 8, 9, 12


class Packer:
    """Of one input. `extradata`: as its demuxer found it."""

    def __init__(self, codec: Codec, extradata: bytes) -> None:
        self._codec = codec
        self._format = VideoFormat(codec)
        self._extradata = b""
        self.renew(extradata)

    @property
    def format(self) -> VideoFormat:
        """Of the packet that was packed last."""
        return self._format

    def renew(self, extradata: bytes) -> None:
        """The demuxer has found others in the midst of the input."""
        self._extradata = extradata
        self._annex_b = self._codec in ("h264", "hevc", "vvc") and _is_annex_b(extradata)
        self._format = VideoFormat(self._codec, b"" if self._annex_b else extradata)

    def pack(self, data: bytes, *, keyframe: bool) -> bytes:
        """The data of a live packet; `format` goes with it."""
        if not self._annex_b:
            return data
        if self._codec == "h264":
            return self._h264(data, keyframe=keyframe)
        return self._extradata + data if keyframe and not _begins_with_sets(self._codec, data) else data

    def _h264(self, data: bytes, *, keyframe: bool) -> bytes:
        """Behind lengths, where the pictures before came so or a picture begins that needs no other."""
        units = _units(data)
        if keyframe:
            configuration = self._configuration(units) if _has(units, _IDR) else b""
            if configuration != self._format.configuration:
                self._format = VideoFormat("h264", configuration)
        if self._format.configuration:
            kept = (unit for unit in units if unit[0] & 31 not in (_DELIMITER, _FILLER))
            return b"".join(struct.pack(">I", len(unit)) + unit for unit in kept)
        return self._extradata + data if keyframe and not _has(units, _SPS) else data

    def _configuration(self, units: list[bytes]) -> bytes:
        """`avcC` of the parameter sets with the picture, or of those that were said ahead; empty: there are none."""
        sets = units if _has(units, _SPS) else _units(self._extradata)
        sequence = _sets(sets, _SPS)
        pictures = _sets(sets, _PPS) or _sets(_units(self._extradata), _PPS)
        return avc_configuration(sequence, pictures) if sequence and pictures else b""


def _is_annex_b(extradata: bytes) -> bool:
    """Configuration records begin with their version, 1 (hvcC of old files: 0), and never with a start code."""
    return not extradata or extradata.startswith((_START, b"\0" + _START))


def _units(data: bytes) -> list[bytes]:
    """NAL units between start codes of three or four bytes; none of them ends with a zero byte."""
    return [unit for part in data.split(_START)[1:] if (unit := part.rstrip(b"\0"))]


def _has(units: Iterable[bytes], kind: int) -> bool:
    return any(unit[0] & 31 == kind for unit in units)


def _sets(units: Iterable[bytes], kind: int) -> list[bytes]:
    """Each once, as many as a record holds."""
    least = _SHORTEST_SPS if kind == _SPS else 1
    found = [unit for unit in units if unit[0] & 31 == kind and least <= len(unit) <= _LONGEST_SET]
    return list(dict.fromkeys(found))[:_MOST_SETS]


def _begins_with_sets(codec: Codec, data: bytes) -> bool:
    """Whether a sequence parameter set comes with the picture (H.265, section 7.4.2.2; H.266, section 7.4.2.2)."""
    if codec == "hevc":
        return any(unit[0] >> 1 & 63 == 33 for unit in _units(data))
    return any(len(unit) > 1 and unit[1] >> 3 == 15 for unit in _units(data))
