from __future__ import annotations

import pytest

from monolith.exports.options import AnnotatedOptions
from monolith.exports.times import FileTimes


@pytest.mark.parametrize(
    ("options", "timestamps", "expected", "origin"),
    [
        (AnnotatedOptions(), [0.36, 0.76, 3.0], [0.36, 0.76, 3.0], 0.0),
        (AnnotatedOptions(), [5000.0, 5000.5, 5002.0], [0.0, 0.5, 2.0], 5000.0),
        (AnnotatedOptions(), [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0], -1.0),
        (AnnotatedOptions(speed=0.5), [0.5, 1.0], [1.0, 2.0], 0.0),
        (AnnotatedOptions(fps=2), [7.0, 7.1, 9.0], [0.0, 0.5, 1.0], 7.0),
        (AnnotatedOptions(fps=2, speed=2), [7.0, 7.1, 9.0], [0.0, 0.25, 0.5], 7.0),
        (AnnotatedOptions(), [1.0, 0.5], [1.0, 0.5], 0.0),
        (AnnotatedOptions(), [100.0, 99.0], [0.0, 0.0], 100.0),
    ],
)
def test_frames_are_shown_at_their_times(
    options: AnnotatedOptions, timestamps: list[float], expected: list[float], origin: float
) -> None:
    times = FileTimes(options)
    assert [times.shown_at(timestamp) for timestamp in timestamps] == pytest.approx(expected)
    assert times.origin == origin
