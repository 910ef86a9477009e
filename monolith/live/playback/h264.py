"""H.264 as WebRTC takes it: Annex B with its parameter sets in the packets, and which streams of packets may pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from monolith.live.packets import LivePacket, VideoFormat

_START_CODE: Final = b"\x00\x00\x00\x01"
_TYPE_MASK: Final = 0x1F
_SPS: Final = 7
_LEFT_OUT: Final = (9, 12)
"""Access unit delimiters and filler: RTP has its own marks, and no rate to fill."""
_PASSING_PROFILES: Final = (66, 77, 100)
"""Baseline, main and high: 8 bits, 4:2:0, what every browser decodes."""
_HEAD_BYTES: Final = 6


class Configuration(msgspec.Struct, frozen=True):
    """What an `avcC` record (ISO/IEC 14496-15, section 5.3.3.1) says."""

    profile: int
    length_bytes: int
    parameter_sets: tuple[bytes, ...]


@lru_cache(maxsize=256)
def configuration_of(video: VideoFormat) -> Configuration | None:
    """None where the record is broken, or is none."""
    record = video.configuration
    if len(record) < _HEAD_BYTES + 1 or record[0] != 1:
        return None
    sets: list[bytes] = []
    at = _HEAD_BYTES - 1
    for mask in (0x1F, 0xFF):
        if at >= len(record):
            return None
        count, at = record[at] & mask, at + 1
        for _ in range(count):
            end = at + 2 + int.from_bytes(record[at : at + 2])
            sets.append(record[at + 2 : end])
            at = end
    if at > len(record) or not sets:
        return None
    return Configuration(record[1], (record[4] & 3) + 1, tuple(sets))


def passes(video: VideoFormat) -> bool:
    """Whether browsers can be expected to decode such pictures."""
    configuration = configuration_of(video)
    return video.codec == "h264" and configuration is not None and configuration.profile in _PASSING_PROFILES


def annex_b(packet: LivePacket) -> bytes:
    """NAL units behind start codes, a keyframe with its parameter sets. An empty configuration says that the packet is
    so already. What a broken packet holds beyond its last whole NAL unit is left out."""
    configuration = configuration_of(packet.format)
    if configuration is None:
        return packet.data
    units = [unit for unit in nal_units(packet.data, configuration.length_bytes) if unit]
    kinds = {unit[0] & _TYPE_MASK for unit in units}
    if packet.keyframe and _SPS not in kinds:
        units = [*configuration.parameter_sets, *units]
    kept = [unit for unit in units if unit[0] & _TYPE_MASK not in _LEFT_OUT]
    return b"".join(_START_CODE + unit for unit in kept)


def nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The NAL units of `data`, each behind its length. Ends before one that is not whole."""
    at = 0
    while at + length_bytes <= len(data):
        end = at + length_bytes + int.from_bytes(data[at : at + length_bytes])
        if end > len(data):
            return
        yield data[at + length_bytes : end]
        at = end
