"""How results look."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monolith.domain.detection import ObjectDetection
from monolith.domain.events import AnalysedFrame
from monolith.readmodels.rendering import (
    BASE_PLACEHOLDER,
    RowRenderer,
    decode_detections,
    encode_detections,
    with_base,
)
from tests.unit.readmodels.story import CAR, FOUND, OBJECTS, UNSURE, VIDEO

_finite = st.floats(0, 1e6, allow_nan=False)


@given(
    label=st.text(max_size=20),
    confidence=st.floats(0.4, 1),
    box=st.tuples(_finite, _finite, _finite, _finite),
    number=st.integers(1, 2**32 - 1),
    seconds=_finite,
)
def test_a_row_is_json_whatever_the_model_said(
    label: str, confidence: float, box: tuple[float, float, float, float], number: int, seconds: float
) -> None:
    found = ObjectDetection(class_id=1, class_name=label, confidence=confidence, xyxy=box)
    frame = AnalysedFrame(
        frame_number=number, timestamp=seconds, detections=(found,), started_at=seconds, seconds=seconds
    )
    row = RowRenderer(VIDEO, OBJECTS, 0.4).row(frame)
    assert row.count(BASE_PLACEHOLDER) == 1
    decoded = msgspec.json.decode(with_base(row, 'http://a"b'))
    assert decoded["inference_results"][0]["label"] == label
    assert decoded["frames_url"] == f'http://a"b/analysis/{VIDEO}/frame/{number}'
    assert abs(decoded["video_timestamp"] - seconds) <= 1e-6


def test_detections_below_the_threshold_are_stored_but_not_shown() -> None:
    frame = AnalysedFrame(
        frame_number=1, timestamp=0.0, detections=(CAR, UNSURE), started_at=0.0, seconds=0.0
    )
    row = msgspec.json.decode(with_base(RowRenderer(VIDEO, OBJECTS, 0.4).row(frame), "http://x"))
    assert [entry["label"] for entry in row["inference_results"]] == ["car"]


def test_stored_detections_come_back_exactly() -> None:
    for detections in FOUND.values():
        assert decode_detections(encode_detections(detections)) == detections
