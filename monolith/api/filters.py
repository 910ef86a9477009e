"""Query parameters that say which results are wanted, for routes that make files of them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import Depends, Query

from monolith.api.requests import RunId, check_model_names, check_run_id
from monolith.domain.models import INFERENCE_MODEL_NAMES
from monolith.readmodels.results import ResultFilter
from monolith.readmodels.schema import MAX_FRAME_NUMBER

_LONGEST_LABEL: Final = 100
_LONGEST_VIDEO: Final = 1e9

Models = Annotated[
    list[str] | None,
    Query(
        alias="model",
        description="Only these, by either of their names",
        json_schema_extra={"items": {"enum": [*INFERENCE_MODEL_NAMES, *INFERENCE_MODEL_NAMES.values()]}},
    ),
]
Frame = Annotated[int | None, Query(ge=0, le=MAX_FRAME_NUMBER, description="Inclusive")]
Seconds = Annotated[
    float | None, Query(ge=-_LONGEST_VIDEO, le=_LONGEST_VIDEO, description="Of video, inclusive")
]
Confidence = Annotated[
    float | None, Query(ge=0, le=1, description="Only detections from here on, instead of the default")
]
Label = Annotated[
    str | None,
    Query(max_length=_LONGEST_LABEL, description="Only detections with this label, emotion or colour"),
]


class Filters(msgspec.Struct, frozen=True):
    """`models`: keys, none: all."""

    models: tuple[str, ...]
    run_id: str | None
    wanted: ResultFilter


def _filters(
    model: Models = None,
    run: RunId = None,
    from_frame: Frame = None,
    to_frame: Frame = None,
    from_time: Seconds = None,
    to_time: Seconds = None,
    min_confidence: Confidence = None,
    label: Label = None,
) -> Filters:
    wanted = ResultFilter(
        from_frame=from_frame,
        to_frame=to_frame,
        from_time=from_time,
        to_time=to_time,
        min_confidence=min_confidence,
        label=label,
    )
    return Filters(tuple(check_model_names(model or [])), check_run_id(run), wanted)


Wanted = Annotated[Filters, Depends(_filters)]
