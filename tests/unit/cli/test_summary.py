from __future__ import annotations

import io

import pytest
from rich.console import Console

from monolith.cli.client import VideoStatus
from monolith.cli.summary import Found, MainColor, Summarizer, show
from tests.unit.cli.rows import VIDEO_ID, colors, faces, objects


def test_frames_are_counted_not_detections() -> None:
    summarizer = Summarizer()
    summarizer.add([objects(1, ("car", 50), ("car", 80)), objects(2, ("car", 60), ("dog", 45)), objects(3)])
    summarizer.add([faces(3, ("sad", 40), ("happy", 70))])
    summary = summarizer.result()
    assert summary.frames == 3
    assert summary.objects == (Found("car", 2, 0.8), Found("dog", 1, 0.45))
    assert set(summary.emotions) == {Found("sad", 1, 0.4), Found("happy", 1, 0.7)}


def test_alike_colors_count_as_one_by_their_share() -> None:
    summarizer = Summarizer()
    summarizer.add(
        [colors(1, ("#000000", 0.5), ("#ff0000", 0.5)), colors(2, ("#040404", 0.25), ("#ff0000", 0.0))]
    )
    assert summarizer.result().colors == (MainColor("#010101", 0.375), MainColor("#ff0000", 0.25))


def test_at_most_five_colors_are_told() -> None:
    summarizer = Summarizer()
    summarizer.add([colors(1, *((f"#{value:02x}0000", 0.1) for value in range(0, 256, 32)))])
    assert len(summarizer.result().colors) == 5


@pytest.mark.parametrize(("coverage", "told"), [(1.0, False), (0.5, True), (None, False)])
def test_the_table_tells_what_was_found_and_what_is_missing(coverage: float | None, told: bool) -> None:
    status = VideoStatus(
        video_id=VIDEO_ID, video_name="[bold]clip", video_url="", status="Completed", error=None, frame_step=1,
        status_url="", frames_total=2, frames_sampled=2, frames_analyzed=1, frames_dropped=1, coverage=coverage,
        progress=1.0, media=None,
    )  # fmt: skip
    summarizer = Summarizer()
    summarizer.add([objects(1, ("car", 50)), faces(1, ("sad", 40)), colors(1, ("#102030", 1.0))])
    text = io.StringIO()
    show(Console(file=text, width=100), status, summarizer.result())
    shown = text.getvalue()
    assert "[bold]clip: 1 frames" in shown
    assert ("50.0% of those asked for" in shown) is told
    for words in ("car", "50%", "face: sad", "40%", "#102030", "100% of the picture"):
        assert words in shown
