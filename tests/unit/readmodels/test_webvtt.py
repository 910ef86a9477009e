from __future__ import annotations

import json
from typing import Any

import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.detection import ColorShare, Detection, FaceDetection, ObjectDetection
from monolith.readmodels.findings import Findings
from monolith.readmodels.webvtt import CueWriter, Kind, longest_stand, seen
from tests.unit.readmodels.story import CAR, COLORS, FACE, FACES, OBJECTS, PALETTE


def person(name: str = "person") -> ObjectDetection:
    return ObjectDetection(class_id=0, class_name=name, confidence=0.8, xyxy=(1.0, 2.0, 3.0, 4.0))


def frame(number: int, timestamp: float, *found: Detection) -> Findings:
    by_model = (
        (OBJECTS, tuple(one for one in found if isinstance(one, ObjectDetection))),
        (FACES, tuple(one for one in found if isinstance(one, FaceDetection))),
        (COLORS, tuple(one for one in found if isinstance(one, ColorShare))),
    )
    return Findings(
        frame_number=number, timestamp=timestamp, pack="p", offset=0, length=1, width=640, height=272,
        found=by_model,
    )  # fmt: skip


def document(
    frames: list[Findings], kind: Kind = "subtitles", page: int = 2, longest: float = 1.0, **options: Any
) -> str:
    """The whole text, written page by page."""
    writer = CueWriter(kind, longest=longest, usual=0.2, **options)
    pages = [writer.cues(frames[i : i + page]) for i in range(0, len(frames), page)]
    return b"".join([writer.head("clip"), *pages, writer.tail()]).decode()


def cues(text: str) -> list[tuple[str, str, str]]:
    return [(cue.start, cue.end, cue.text) for cue in webvtt.from_string(text).captions]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_the_same_content_is_one_cue(page: int) -> None:
    frames = [
        frame(1, 0.0, CAR),
        frame(2, 0.2, CAR),
        frame(3, 0.4),
        frame(4, 0.6, CAR, FACE),
        frame(5, 0.8, CAR, FACE),
    ]
    assert cues(document(frames, page=page)) == [
        ("00:00:00.000", "00:00:00.400", "car"),
        ("00:00:00.600", "00:00:01.000", "car\nface: happy"),
    ]


def test_in_a_gap_nothing_is_said() -> None:
    frames = [frame(1, 0.0, CAR), frame(2, 0.2, CAR), frame(3, 30.0, CAR)]
    assert cues(document(frames)) == [
        ("00:00:00.000", "00:00:00.400", "car"),
        ("00:00:30.000", "00:00:30.200", "car"),
    ]


def test_colours_are_named_where_they_are_wanted() -> None:
    frames = [frame(1, 0.0, CAR, *PALETTE)]
    assert cues(document(frames))[0][2] == "car"
    assert cues(document(frames, with_colors=True))[0][2] == "car\n#102030 50%, #405060 30%, #708090 20%"


def test_what_is_seen_is_counted_and_escaped() -> None:
    assert seen([person(), CAR, person(), person("a<b>&c")]) == "person ×2, a&lt;b&gt;&amp;c, car"
    assert seen([]) == ""


def test_metadata_has_every_box_of_every_frame() -> None:
    frames = [frame(10, 0.2, CAR), frame(20, 0.4), frame(30, 0.6, *PALETTE[:1])]
    found = cues(document(frames, "metadata"))
    assert [(start, end) for start, end, _ in found] == [
        ("00:00:00.200", "00:00:00.400"), ("00:00:00.400", "00:00:00.600"), ("00:00:00.600", "00:00:00.800"),
    ]  # fmt: skip
    first, second, third = (json.loads(text) for _, _, text in found)
    assert first == {
        "frame_number": 10, "timestamp": 0.2, "width": 640, "height": 272,
        "inference_results": [
            {"label": "car", "probability": 87.31, "coordinates": [10.0, 20.0, 100.5, 50.25]}
        ],
    }  # fmt: skip
    assert second["inference_results"] == []
    assert third["inference_results"] == [{"color": "#102030", "share": 0.5}]


def test_an_arrow_in_a_label_breaks_no_cue() -> None:
    frames = [frame(1, 0.0, person("a --> b"))]
    text = document(frames, "metadata")
    assert text.count("-->") == 1
    assert json.loads(cues(text)[0][2])["inference_results"][0]["label"] == "a --> b"


def test_the_comment_stays_one_line_without_an_arrow() -> None:
    head = CueWriter("subtitles", longest=1, usual=1).head("a\n\nb --> c").decode()
    assert head == "WEBVTT\n\nNOTE a b → c\n\n"


def test_hours_may_have_more_than_two_digits() -> None:
    assert "100:00:00.500 --> 100:00:00.700" in document([frame(1, 360_000.5, CAR)])


@pytest.mark.parametrize(
    ("rate", "step", "seconds"), [(25.0, 1, 1.0), (25.0, 100, 12.0), (None, 1, 5.0), (0.0, 1, 5.0)]
)
def test_how_long_a_frame_may_stand(rate: float | None, step: int, seconds: float) -> None:
    assert longest_stand(rate, step) == pytest.approx(seconds)


@given(
    st.lists(st.tuples(st.floats(-2, 1e7), st.sampled_from(["car", "person", "", "a --> <b>"])), max_size=12),
    st.sampled_from(["subtitles", "metadata"]),
)
def test_whatever_comes_is_valid_and_in_order(seen_at: list[tuple[float, str]], kind: Kind) -> None:
    """Times may even go back, as those of a camera that starts again do."""
    frames = [
        frame(n, time, *([person(label)] if label else [])) for n, (time, label) in enumerate(seen_at, 1)
    ]
    found = webvtt.from_string(document(frames, kind)).captions
    starts = [cue.start_in_seconds + cue.start_time.milliseconds / 1000 for cue in found]
    ends = [cue.end_in_seconds + cue.end_time.milliseconds / 1000 for cue in found]
    assert starts == sorted(starts)
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    if kind == "subtitles" and not any(label for _, label in seen_at):
        assert not found
