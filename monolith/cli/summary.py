"""What was found in a video: classes, emotions, main colours; for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monolith.cli.client import VideoStatus
from monolith.readmodels.export import Row

_BUCKET: Final = 48
"""Colours whose channels fall into the same span of this width count as one."""
_COLORS_SHOWN: Final = 5


class Found(msgspec.Struct, frozen=True):
    """A class or an emotion: in how many frames, and the best confidence, 0–1."""

    name: str
    frames: int
    best_confidence: float


class MainColor(msgspec.Struct, frozen=True):
    """A colour, `#rrggbb` (the mean of alike ones), and its share of all analysed pictures, 0–1."""

    color: str
    share: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a video, the most frequent first."""

    frames: int
    objects: tuple[Found, ...]
    emotions: tuple[Found, ...]
    colors: tuple[MainColor, ...]


class _Tally:
    """Counts frames, not detections: ten cars in a frame are one frame with cars."""

    def __init__(self) -> None:
        self._frames: Counter[str] = Counter()
        self._best: dict[str, float] = {}

    def add(self, found: Iterable[tuple[str, float]]) -> None:
        """All that one frame holds: names and percents."""
        names = set()
        for name, percent in found:
            names.add(name)
            self._best[name] = max(self._best.get(name, 0.0), percent / 100)
        self._frames.update(names)

    def result(self) -> tuple[Found, ...]:
        return tuple(Found(n, count, round(self._best[n], 4)) for n, count in self._frames.most_common())


class Summarizer:
    """Takes the rows of a video in any order; `result` at the end."""

    def __init__(self) -> None:
        self._frames: set[int] = set()
        self._objects = _Tally()
        self._emotions = _Tally()
        self._color_frames = 0
        self._colors: dict[tuple[int, int, int], list[float]] = {}

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._frames.add(row.frame_number)
            entries = row.inference_results
            self._objects.add((e.label, e.probability or 0) for e in entries if e.label is not None)
            self._emotions.add(
                (e.emotion, e.emotion_probability or 0) for e in entries if e.emotion is not None
            )
            colors = [(e.color, e.share or 0.0) for e in entries if e.color is not None]
            self._color_frames += bool(colors)
            for color, share in colors:
                self._add_color(color, share)

    def _add_color(self, color: str, share: float) -> None:
        """Sums of share, and of each channel weighted by it."""
        red, green, blue = bytes.fromhex(color.removeprefix("#"))
        sums = self._colors.setdefault((red // _BUCKET, green // _BUCKET, blue // _BUCKET), [0.0] * 4)
        for position, value in enumerate((1, red, green, blue)):
            sums[position] += share * value

    def result(self) -> Summary:
        return Summary(
            frames=len(self._frames),
            objects=self._objects.result(),
            emotions=self._emotions.result(),
            colors=tuple(self._main_colors()),
        )

    def _main_colors(self) -> Iterable[MainColor]:
        largest = sorted(self._colors.values(), reverse=True)[:_COLORS_SHOWN]
        for weight, *channels in largest:
            if weight > 0:
                red, green, blue = (round(channel / weight) for channel in channels)
                yield MainColor(f"#{red:02x}{green:02x}{blue:02x}", round(weight / self._color_frames, 4))


def show(console: Console, status: VideoStatus, summary: Summary) -> None:
    """A table of what was found."""
    title = f"{escape(status.video_name)}: {summary.frames} frames"
    if status.coverage is not None and status.coverage < 1:
        title += f", {status.coverage:.1%} of those asked for"
    console.print(title, soft_wrap=True)
    table = Table("found", "frames", "best")
    for found in summary.objects:
        table.add_row(found.name, str(found.frames), f"{found.best_confidence:.0%}")
    for found in summary.emotions:
        table.add_row(f"face: {found.name}", str(found.frames), f"{found.best_confidence:.0%}")
    for color in summary.colors:
        table.add_row(f"[{color.color}]██[/] {color.color}", f"{color.share:.0%} of the picture", "")
    if not table.row_count:
        table.add_row("nothing", "", "")
    console.print(table)
