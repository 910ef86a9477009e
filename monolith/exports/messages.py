"""What the program and its encoder processes say to each other."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.detection import Detection


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Open the file at `path`. `width`, `height`: of the video, even, pixels; `rate`: pictures a second, usually."""

    path: str
    width: int
    height: int
    rate: float


class DrawnFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A stored JPEG of `length` bytes from `offset` of a pack, what to draw into it, and when it is shown (seconds)."""

    pack_path: str
    offset: int
    length: int
    seconds: float
    detections: tuple[Detection, ...]


class Append(msgspec.Struct, frozen=True, tag=True):
    """Draw and encode these, in order. Answered by Encoded."""

    frames: tuple[DrawnFrame, ...]


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Nothing follows. Answered by Finished."""


ToEncoder: TypeAlias = Begin | Append | Finish


class Started(msgspec.Struct, frozen=True, tag=True):
    """The process is up."""

    pid: int


class Encoded(msgspec.Struct, frozen=True, tag=True):
    """So many frames of the file are done."""

    frames: int


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The file is whole and closed. `end`: seconds from its beginning to its end."""

    frames: int
    end: float
    codec: str
    size_bytes: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The end of the work, and why, for users. `gone`: a frame pack is not there any more."""

    reason: str
    gone: bool = False


FromEncoder: TypeAlias = Started | Encoded | Finished | Failed
