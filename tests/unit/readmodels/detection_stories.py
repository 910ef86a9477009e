"""Made-up histories of a video: runs of several models, segments closed or not, expired or not, and what was asked."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from monolith.domain.detection import EMOTIONS, ColorShare, FaceDetection, ObjectDetection
from monolith.domain.events import AnalysedFrame
from monolith.readmodels.results import ResultFilter
from tests.unit.readmodels.segments import analysed_frames, closed, expired
from tests.unit.readmodels.story import (
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    VIDEO,
    Streamed,
    requested,
    submitted,
)

FRAMES: Final = 4
"""Of each segment."""
SEGMENTS: Final = 4
LABELS: Final = ("car", "person", "dog")

# Thresholds, and what rounds to them; times that rounding moves.
CONFIDENCES = st.sampled_from([0.2, 0.39996, 0.4, 0.49999, 0.5, 0.500049, 0.875, 1.0])
SECONDS = st.sampled_from([1 / 48000, 1 / 3, 0.04, 2 / 3 + 1e-9])
PIXELS = st.floats(0, 2000, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def objects(draw: st.DrawFn) -> ObjectDetection:
    left, top = draw(PIXELS), draw(PIXELS)
    return ObjectDetection(
        class_id=0,
        class_name=draw(st.sampled_from(LABELS)),
        confidence=draw(CONFIDENCES),
        xyxy=(left, top, left + draw(PIXELS), top + draw(PIXELS)),
    )


@st.composite
def faces(draw: st.DrawFn) -> tuple[FaceDetection, ...]:
    return tuple(
        FaceDetection(
            face_id=number,
            confidence=draw(CONFIDENCES),
            xyxy=(1.0, 2.0, 31.125, 42.0),
            emotion=draw(st.sampled_from(EMOTIONS)),
            emotion_probability=draw(CONFIDENCES),
            emotions=(),
        )
        for number in range(1, draw(st.integers(0, 3)) + 1)
    )


PALETTES = st.lists(st.integers(0, (1 << 24) - 1), min_size=3, max_size=3).map(
    lambda values: tuple(
        ColorShare(color=f"#{value:06x}", share=share)
        for value, share in zip(values, (0.5, 0.3, 0.2), strict=True)
    )
)
FOUND_BY: Final[dict[str, st.SearchStrategy[Any]]] = {
    OBJECTS: st.lists(objects(), max_size=4).map(tuple),
    FACES: faces(),
    COLORS: PALETTES,
}


class History(msgspec.Struct, frozen=True):
    """`early`: what both, read models and files, know; `late`: what only one of them knows yet."""

    early: list[Streamed]
    late: list[Streamed]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A first run of all models; perhaps a second of some."""
    unit = draw(SECONDS)
    runs = {RUN: draw(st.lists(st.sampled_from([OBJECTS, FACES, COLORS]), min_size=1, unique=True))}
    if draw(st.booleans()):
        runs[SECOND_RUN] = draw(st.lists(st.sampled_from([OBJECTS, COLORS]), min_size=1, unique=True))
    steps: list[list[Streamed]] = []
    for run, models in runs.items():
        step = draw(st.sampled_from([1, 2]))
        for segment in range(SEGMENTS):
            judged = [draw(_results(segment, model, run, step, unit)) for model in models]
            finished = closed(segment, run_id=run, frames=FRAMES) if draw(st.integers(0, 3)) else []
            steps.append([*judged, *finished])
    order = draw(st.permutations(steps))
    cut = draw(st.integers(0, len(order)))
    begin = [*submitted(runs[RUN])]
    if SECOND_RUN in runs:
        begin.append(requested(runs[SECOND_RUN], run_id=SECOND_RUN))
    gone = draw(st.sets(st.integers(0, SEGMENTS - 1), max_size=2))
    expiry = [expired(*sorted(gone), runs=tuple(runs), frames=FRAMES)] if gone else []
    late = [event for step in order[cut:] for event in step] if not gone else []
    early = order[:cut] if not gone else order
    return History([*begin, *(event for step in early for event in step), *expiry], late)


@st.composite
def _results(draw: st.DrawFn, segment: int, model: str, run: str, step: int, unit: float) -> Streamed:
    numbers = range(segment * FRAMES + 1, (segment + 1) * FRAMES + 1)
    frames = tuple(
        AnalysedFrame(
            frame_number=number, timestamp=number * unit, detections=draw(FOUND_BY[model]),
            started_at=1_700_000_000.25, seconds=0.0125,
        )
        for number in numbers
        if number % step == 0
    )  # fmt: skip
    return analysed_frames(frames, segment, model, run_id=run, video_id=VIDEO)


FILTERS = st.builds(
    ResultFilter,
    from_frame=st.none() | st.integers(0, 18),
    to_frame=st.none() | st.integers(0, 18),
    from_time=st.none() | st.sampled_from([0.0, 1 / 3, 0.333333, 1.0, 2.0]),
    to_time=st.none() | st.sampled_from([0.333333, 1 / 3, 0.666667, 3.0]),
    min_confidence=st.none() | st.sampled_from([0.0, 0.3, 0.4, 0.5, 1.0]),
    label=st.none() | st.sampled_from([*LABELS, "face", "happy", "#000000"]),
)
