"""Options of `export`, `timeline` and `summary`, and what people see."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from monolith.api import examples
from monolith.cli.exits import CliError, Exit
from monolith.cli.export import FORMATS, Filters, format_of
from monolith.cli.findings import clock_time, show_summary, show_timeline


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("a.json", None, "json"), ("a.coco.json", None, "coco"), ("a.JSONL", None, "ndjson"), ("a.pq", None, "parquet"),
        ("a.arrows", None, "arrow"), ("a.vtt", None, "vtt"), ("a.mp4", None, "mp4"), ("-", None, "json"),
        ("a.txt", "csv", "csv"), ("-", "parquet", "parquet"),
    ],
)  # fmt: skip
def test_the_format_is_the_one_asked_for_else_that_of_the_ending(
    name: str, asked: str | None, expected: str
) -> None:
    assert format_of(Path(name), asked) == expected


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("a.txt", None, "the ending of a.txt names no format; --format takes json"),
        ("a", None, "the ending of a names no format"),
        ("a.csv", "xml", f"'xml' is no format; --format takes {', '.join(FORMATS)}"),
        ("-", "mp4", "an mp4 goes to a file; name one with --out"),
    ],
)
def test_a_format_that_cannot_be_told_is_wrong_usage(name: str, asked: str | None, words: str) -> None:
    with pytest.raises(CliError, match=words) as caught:
        format_of(Path(name), asked)
    assert caught.value.code == Exit.USAGE


def test_filters_are_those_of_the_api() -> None:
    filters = Filters(models="objects,color", run="r", from_time=1.5, min_confidence=0.0, label="car")
    assert filters.query == [
        ("model", "objects_detection"), ("model", "color_detection"), ("run", "r"), ("from_time", "1.5"),
        ("min_confidence", "0.0"), ("label", "car"),
    ]  # fmt: skip
    assert Filters().query == []
    with pytest.raises(CliError, match="there is no model 'x'"):
        _ = Filters(models="x").query


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00"),
        (9.96, "0:10"),
        (59.96, "1:00"),
        (61.5, "1:01.5"),
        (3600.0, "1:00:00"),
        (90_061.0, "25:01:01"),
        (-1.5, "-0:01.5"),
    ],
)
def test_times_are_clock_times(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def shown(show: object, answer: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(console, answer)  # type: ignore[operator]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_timeline_is_a_table() -> None:
    text = shown(show_timeline, examples.TIMELINE)
    assert "car 71 (4), person 12 (1)" in text
    assert "happy 70%, neutral 30%" in text
    assert "2 buckets of 10 s" in text


def test_a_summary_is_a_table() -> None:
    text = shown(show_summary, examples.SUMMARY)
    assert "Street: Completed" in text
    assert "360 frames; 100.0% of those asked for; 45.0 frames/s" in text
    assert "face: happy" in text
    assert "#5a6b70 48%" in text


def test_nothing_found_is_said() -> None:
    nothing: dict[str, Any] = {
        "objects": [],
        "faces": None,
        "emotions": [],
        "palette": None,
        "frames_expired": 12,
    }
    text = shown(show_summary, examples.SUMMARY | nothing)
    assert "nothing was found" in text
    assert "12 frames have expired" in text
