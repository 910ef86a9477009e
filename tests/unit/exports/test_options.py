from __future__ import annotations

from typing import Any

import msgspec
import pytest

from monolith.exports.options import AnnotatedOptions, subject_of
from monolith.readmodels.videos import RunView, SegmentCounts, VideoView
from tests.unit.readmodels.story import COLORS, FACES, OBJECTS, RUN, SECOND_RUN, VIDEO

ALL = AnnotatedOptions()


def run(**changes: Any) -> RunView:
    view = RunView(
        run_no=1, run_id=RUN, models=(OBJECTS,), frame_step=5, status="Completed", error=None, requested_at=1.0,
        ended_at=2.0, frames_sampled=50, frames_analyzed=50, frames_dropped=0, greatest_frame_analyzed=250,
        coverage=1.0, progress=1.0, segments=SegmentCounts(1, 1, 0),
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def video(*runs: RunView) -> VideoView:
    return VideoView(
        video_no=1, video_id=VIDEO, video_name="clip", video_url="", source_kind="file", submitted_at=1.0,
        media=None, frames_total=250, frames_stored=50, runs=runs, parked_events=0, submitted_position=1,
    )  # fmt: skip


def version(*runs: RunView, options: AnnotatedOptions = ALL) -> str:
    return subject_of(video(*runs), options).version


def test_options_that_mean_the_same_have_the_same_name() -> None:
    names = {
        AnnotatedOptions().digest,
        AnnotatedOptions(models=(COLORS, FACES, OBJECTS)).digest,
        AnnotatedOptions(models=(OBJECTS, COLORS, FACES)).digest,
        AnnotatedOptions(speed=1).digest,
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    "options",
    [
        AnnotatedOptions(models=(OBJECTS,)),
        AnnotatedOptions(run_id=RUN),
        AnnotatedOptions(min_confidence=0.0),
        AnnotatedOptions(from_time=0.0),
        AnnotatedOptions(to_time=0.0),
        AnnotatedOptions(speed=2.0),
        AnnotatedOptions(fps=25.0),
    ],
)
def test_other_options_have_other_names(options: AnnotatedOptions) -> None:
    assert options.digest != AnnotatedOptions().digest
    assert version(run(), options=options) != version(run())


def test_the_version_changes_with_what_there_is_to_show() -> None:
    first = version(run())
    assert version(run()) == first
    assert version(run(frames_analyzed=51)) != first
    assert version(run(status="Processing")) != first
    assert version(run(), run(run_no=2, run_id=SECOND_RUN)) != first
    assert version(run(), run(run_no=2, run_id=SECOND_RUN, models=(FACES,))) != first


@pytest.mark.parametrize(
    ("status", "complete"),
    [("Completed", True), ("Failed", True), ("Processing", False), ("Pending", False)],
)
def test_it_is_complete_when_no_more_will_come(status: str, complete: bool) -> None:
    assert subject_of(video(run(status=status)), AnnotatedOptions()).complete is complete


def test_the_rate_follows_step_and_speed() -> None:
    assert subject_of(video(run()), AnnotatedOptions()).rate == pytest.approx(5.0)
    assert subject_of(video(run()), AnnotatedOptions(speed=4)).rate == pytest.approx(20.0)
    assert subject_of(video(run()), AnnotatedOptions(fps=2, speed=4)).rate == pytest.approx(8.0)
