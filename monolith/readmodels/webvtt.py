"""Results as WebVTT: subtitles that say what is seen when, or metadata cues with the boxes of each frame as JSON.

A frame stands for what is seen until the next analysed frame, but no longer than `longest` seconds: in a gap (a broken
connection, dropped frames) nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from monolith.domain.detection import ColorShare, Detection, FaceDetection, ObjectDetection
from monolith.readmodels.findings import Findings
from monolith.readmodels.rendering import ResultEntry, entry

Kind: TypeAlias = Literal["subtitles", "metadata"]

_UNKNOWN_RATE_SECONDS: Final = 5.0
_SHORTEST_LONGEST: Final = 1.0
_STEPS: Final = 3.0
"""A gap of so many frames that should have been analysed is one in what is known."""
_GREATEST_TIME: Final = 1e9
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class FrameCue(msgspec.Struct, frozen=True):
    """The JSON of a metadata cue. `width`, `height`: of the picture in which the boxes lie, pixels."""

    frame_number: int
    timestamp: float
    width: int
    height: int
    inference_results: list[ResultEntry]


def longest_stand(frame_rate: float | None, frame_step: int) -> float:
    """Seconds for which a frame may stand, by the source's frames a second (None: unknown)."""
    if not frame_rate:
        return _UNKNOWN_RATE_SECONDS
    return max(_SHORTEST_LONGEST, _STEPS * frame_step / frame_rate)


class CueWriter:
    """Turns frames, page after page, into WebVTT: `head`, `cues` of every page, `tail`.

    `usual`: seconds for which the last frame stands, and the last before a gap; `with_colors`: subtitles name colours,
    too (they change with nearly every frame).
    """

    def __init__(self, kind: Kind, *, longest: float, usual: float, with_colors: bool = False) -> None:
        self._kind = kind
        self._longest = longest
        self._usual = min(usual, longest)
        self._with_colors = with_colors
        self._waiting: Findings | None = None
        self._open: _Cue | None = None
        self._last_start = 0.0

    def head(self, note: str) -> bytes:
        """`note`: a comment, one line."""
        plain = " ".join(note.split()).replace("-->", "→")
        return f"WEBVTT\n\nNOTE {plain}\n\n".encode()

    def cues(self, frames: Iterable[Findings]) -> bytes:
        return "".join(cue for frame in frames for cue in self._take(frame)).encode()

    def tail(self) -> bytes:
        cues = "" if self._waiting is None else "".join(self._stand(self._waiting, self._usual))
        return (cues + "".join(self._close())).encode()

    def _take(self, frame: Findings) -> Iterator[str]:
        """The cues that are known to end now that `frame` comes."""
        before, self._waiting = self._waiting, frame
        if before is not None:
            gap = frame.timestamp - before.timestamp
            yield from self._stand(before, gap if 0 <= gap <= self._longest else self._usual)

    def _stand(self, frame: Findings, seconds: float) -> Iterator[str]:
        """`frame` is what is seen for `seconds`."""
        text = self._text(frame)
        start, end = _clamped(frame.timestamp), _clamped(frame.timestamp + seconds)
        start = max(start, self._last_start)  # cues come in the order of their beginnings
        before = self._open
        if before and text == before.text and _milliseconds(start) <= _milliseconds(before.end):
            self._open = msgspec.structs.replace(before, end=max(end, before.end))
            return
        yield from self._close()
        if text and frame.timestamp + seconds > 0:
            self._open = _Cue(start, end, text)
            self._last_start = start

    def _close(self) -> Iterator[str]:
        if self._open is not None:
            yield self._open.rendered()
            self._open = None

    def _text(self, frame: Findings) -> str:
        if self._kind == "metadata":
            return _metadata(frame)
        return seen(frame.detections, with_colors=self._with_colors)


class _Cue(msgspec.Struct, frozen=True):
    start: float
    end: float
    text: str

    def rendered(self) -> str:
        start = _milliseconds(self.start)
        end = max(start + 1, _milliseconds(self.end))
        return f"{_time(start)} --> {_time(end)}\n{self.text}\n\n"


def seen(detections: Iterable[Detection], *, with_colors: bool = False) -> str:
    """What is seen, in a line for each model: `person ×2, car`; `face: happy ×2, sad`; `#102030 50%, #405060 30%`."""
    found = list(detections)
    objects = Counter(one.class_name for one in found if isinstance(one, ObjectDetection))
    faces = Counter(one.emotion for one in found if isinstance(one, FaceDetection))
    colors = [f"{one.color} {one.share:.0%}" for one in found if isinstance(one, ColorShare)]
    lines = [_counted(objects), f"face: {_counted(faces)}" if faces else ""]
    if with_colors:
        lines.append(", ".join(colors))
    return "\n".join(line for line in lines if line).translate(_ESCAPES)


def _counted(names: Counter[str]) -> str:
    """The most frequent first, then by name: the order does not change while what is seen stays."""
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in ordered)


def _metadata(frame: Findings) -> str:
    cue = FrameCue(
        frame.frame_number,
        round(frame.timestamp, 6),
        frame.width,
        frame.height,
        [entry(detection) for detection in frame.detections],
    )
    # The arrow may not stand in a cue; JSON may spell its head in another way.
    return msgspec.json.encode(cue).decode().replace(">", "\\u003e")


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), _GREATEST_TIME)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _time(milliseconds: int) -> str:
    """Hours have two digits or more."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}.{rest:03d}"
