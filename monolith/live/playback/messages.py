"""Between the program and an encoder process: packets in, boxes in, packets out. MessagePack over the link."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from monolith.domain.detection import Detection
from monolith.live.packets import LivePacket

OutCodec: TypeAlias = Literal["h264", "vp8"]
"""What viewers may take."""


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The first message. Pictures are scaled down to `max_height`; `overlay`: with what was `Found` drawn in.
    `most_bits`: a second, at most, and at least 50 000; 0: as many as pictures of their size want.

    A picture that is later than `latest` seconds behind the arrival of its packet is decoded, but not encoded.
    """

    codec: OutCodec
    overlay: bool
    max_height: int
    latest: float
    most_bits: int = 0


class Found(msgspec.Struct, frozen=True, tag="found"):
    """What `model` found in the picture at `milliseconds` of its source; boxes in pixels of a picture `height` high."""

    milliseconds: int
    model: str
    height: int
    detections: tuple[Detection, ...]


class Decode(msgspec.Struct, frozen=True, tag="decode"):
    """The next packet. Answered with `Encoded`, none or more of them, then `Taken`."""

    packet: LivePacket


class Keyframe(msgspec.Struct, frozen=True, tag="keyframe"):
    """The next picture is to be one."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The process is up."""

    pid: int


class Encoded(msgspec.Struct, frozen=True, tag="encoded"):
    """A picture. H.264: Annex B, keyframes with parameter sets. `arrived`: of the packet that it came of."""

    data: bytes
    pts: int
    keyframe: bool
    arrived: float


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """A packet has been worked off. `late`: pictures of it that were not encoded; `damage`: why none could be
    decoded; empty where it could."""

    late: int = 0
    damage: str = ""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The process ends: `reason` is for the log."""

    reason: str


ToEncoder: TypeAlias = Begin | Decode | Found | Keyframe
FromEncoder: TypeAlias = Started | Encoded | Taken | Failed
