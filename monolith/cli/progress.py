"""Progress bars on standard error: for each video frames done, frames a second, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from monolith.cli.client import VideoStatus

_NAME_WIDTH = 32


class _RateColumn(ProgressColumn):
    """Frames a second, or megabytes a second while a file is sent."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        if task.fields["unit"] == "bytes":
            return Text(f"{speed / 1e6:.1f} MB/s")
        return Text(f"{speed:.1f} frames/s")


def analysis_bars(console: Console) -> Progress:
    """Bars for videos; drawn at most four times a second."""
    return Progress(
        TextColumn("{task.description}", table_column=None),
        BarColumn(),
        TaskProgressColumn("{task.percentage:>3.0f} %", text_format_no_percentage=""),
        TextColumn("{task.fields[detail]}"),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


@contextmanager
def counting_bar(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for `total` steps; call what it yields after each."""
    with analysis_bars(console) as bars:
        task = bars.add_task(name, total=total, detail="", unit="frames")
        yield lambda: bars.advance(task)


@contextmanager
def frames_bar(console: Console, name: str, total: int) -> Iterator[Callable[[float, int], None]]:
    """A bar for about `total` frames; call what it yields with how far it is (0–1) and the frames that are done."""
    with analysis_bars(console) as bars:
        task = bars.add_task(name, total=total, detail="waiting", unit="frames")

        def watch(fraction: float, frames: int) -> None:
            detail = f"{frames} frames" if frames else "waiting"
            bars.update(task, completed=total if fraction == 1 else min(frames, total), detail=detail)

        yield watch


class VideoBar:
    """One video's bar, from the upload to the end of the analysis. That of a live source has no end in sight."""

    def __init__(self, bars: Progress, name: str) -> None:
        self._bars = bars
        self._name = name if len(name) <= _NAME_WIDTH else "…" + name[1 - _NAME_WIDTH :]
        self._frames = False
        self._ending = False
        self._task: TaskID = bars.add_task(self._name, total=None, detail="waiting", unit="bytes")

    def sent(self, done: int, size: int) -> None:
        """Bytes of the file that went to the server."""
        self._bars.update(self._task, completed=done, total=size, detail="sending")

    def analysed(self, status: VideoStatus) -> None:
        """How far the analysis is."""
        if not self._frames:
            self._frames = True
            self._bars.reset(self._task, total=None, unit="frames", detail=status.status.lower())
        total, done = status.frames_sampled, status.frames_analyzed + status.frames_dropped
        detail = f"{done}/{total} frames" if total is not None else f"{done} frames"
        if status.live and not status.ended:
            total, detail = None, self._live(status, done)
        elif not done:
            detail = status.status.lower()
        self._bars.update(self._task, completed=done, total=total, detail=detail)

    def _live(self, status: VideoStatus, done: int) -> str:
        state = "ending" if self._ending else "live" if status.connected else "live, not connected"
        return f"{state}, {done} frames"

    def ending(self) -> None:
        """The live source is being ended."""
        self._ending = True
        self._bars.console.print(
            f"{escape(self._name)}: the live source is ended; what has come is still analysed (Ctrl-C again gives up)",
            soft_wrap=True,
        )

    def failed(self) -> None:
        """No more will come."""
        self._bars.update(self._task, detail="[red]failed[/red]")
        self._bars.stop_task(self._task)
