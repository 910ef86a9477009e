"""Timelines and summaries as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_NAMED: Final = 4
"""Classes of one bucket that are named; the others are counted."""


def show_timeline(console: Console, answer: Mapping[str, Any]) -> None:
    """`answer`: that of `GET /analysis/{video_id}/timeline`."""
    table = Table("time", "frames", "objects (most at once)", "faces", "emotions", "colours")
    for bucket in answer["buckets"]:
        faces = bucket["faces"]
        table.add_row(
            clock_time(bucket["time"]),
            f"{bucket['frames']:,}",
            _objects(bucket["objects"]),
            f"{faces['detections']:,} ({faces['greatest']})" if faces else "",
            ", ".join(f"{emotion} {share:.0%}" for emotion, share in list(bucket["emotions"].items())[:2]),
            _swatches(bucket["colors"]),
        )
    console.print(table)
    console.print(f"{len(answer['buckets']):,} buckets of {answer['bucket']:g} s")


def show_summary(console: Console, answer: Mapping[str, Any]) -> None:
    """`answer`: that of `GET /analysis/{video_id}/summary`."""
    console.print(f"{escape(answer['video_name'])}: {answer['status']}", soft_wrap=True)
    for run in answer["runs"]:
        console.print(_run_line(run), soft_wrap=True)
    if answer["frames_expired"]:
        console.print(f"{answer['frames_expired']:,} frames have expired; classes are those of the others")
    table = Table("found", "frames", "detections", "most at once", "from", "to", "mean confidence")
    for found in (*answer["objects"], *([answer["faces"]] if answer["faces"] else [])):
        table.add_row(
            found["label"], f"{found['frames']:,}", f"{found['detections']:,}", str(found["greatest"]),
            clock_time(found["first_time"]), clock_time(found["last_time"]), f"{found['mean_confidence']:.0%}",
        )  # fmt: skip
    for found in answer["emotions"]:
        share = f"{found['detections']:,} ({found['share']:.0%})"
        table.add_row(
            f"face: {found['emotion']}",
            f"{found['frames']:,}",
            share,
            "",
            "",
            "",
            f"{found['mean_probability']:.0%}",
        )
    console.print(table if table.row_count else "nothing was found")
    if answer["palette"]:
        colors = answer["palette"]["colors"]
        console.print(" ".join(f"[{one['color']}]██[/] {one['color']} {one['share']:.0%}" for one in colors))


def clock_time(seconds: float) -> str:
    """As `1:02:03.5`; hours where there are any."""
    minutes, left = divmod(round(abs(seconds), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{left:04.1f}" if round(left, 1) % 1 else f"{left:02.0f}"
    sign = "-" if seconds < 0 else ""
    return f"{sign}{hours}:{minutes:02}:{text}" if hours else f"{sign}{minutes}:{text}"


def _run_line(run: Mapping[str, Any]) -> str:
    parts = [f"run {run['run_id']}", ", ".join(run["models"]), f"{run['frames_analyzed']:,} frames"]
    if run["coverage"] is not None:
        parts.append(f"{run['coverage']:.1%} of those asked for")
    if run["frames_per_second"] is not None:
        parts.append(f"{run['frames_per_second']:,.1f} frames/s")
    return "; ".join(parts)


def _objects(counts: Mapping[str, Mapping[str, int]]) -> str:
    named = [
        f"{label} {count['detections']:,} ({count['greatest']})"
        for label, count in list(counts.items())[:_NAMED]
    ]
    more = len(counts) - _NAMED
    return ", ".join([*named, f"{more} more"] if more > 0 else named)


def _swatches(colors: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"[{color['color']}]██[/]" for color in colors)
