"""The domain events, from `monolith.domain.events`: their fields, and what their docstrings say."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec

from monolith.domain.detection import ColorShare, FaceDetection, ObjectDetection
from monolith.domain.events import (
    DOMAIN_EVENTS,
    AnalysedFrame,
    FrameEvent,
    ResultEvent,
    VideoEvent,
    frames_stream,
    results_stream,
    video_stream,
)
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import (
    ExpiredModel,
    ExpiredRun,
    ExpiredSegment,
    SegmentPlan,
    SourceInfo,
    StoredFrame,
)
from monolith.domain.webhook_events import (
    WEBHOOK_EVENTS,
    WEBHOOKS_STREAM,
    WebhookEvent,
    WebhookListed,
    webhook_stream,
)
from tools.docs.markdown import code, page, table

_PARTS = (
    SegmentPlan, SourceInfo, StoredFrame, ModelIdentity, AnalysedFrame, ObjectDetection, FaceDetection, ColorShare,
    ExpiredSegment, ExpiredRun, ExpiredModel,
)  # fmt: skip
_STREAMS: tuple[tuple[str, Any], ...] = (
    (video_stream("{video_id}"), VideoEvent),
    ("frames-{video_id}-{segment}", FrameEvent),
    ("results-{run_id}-{segment}", ResultEvent),
    (webhook_stream("{webhook_id}"), WebhookEvent),
    (WEBHOOKS_STREAM, WebhookListed | None),
)


def events_page() -> str:
    assert frames_stream("v", 0) == "frames-v-000000" and results_stream("r", 0) == "results-r-000000"
    intro = (
        "Events are JSON objects; a field that holds its default may be missing. Times are Unix seconds (UTC) unless"
        " said otherwise, ids are UUIDs in text, segments count from 0 and have six digits in names of streams. What"
        " the streams are for is in [the event model](../explanation/event-model.md)."
    )
    streams = table(("stream", "events"), [(code(name), _names(union)) for name, union in _STREAMS])
    events = [_section(kind) for kind in (*DOMAIN_EVENTS, *WEBHOOK_EVENTS)]
    parts = [_section(kind) for kind in _PARTS]
    return page(
        "Events",
        "`monolith.domain.events`, `monolith.domain.webhook_events`",
        [intro, "## Streams", streams, "## Events", *events, "## Parts of events", *parts],
    )


def _names(union: Any) -> str:
    names = [kind.__name__ for kind in union.__args__ if kind is not type(None)]
    return ", ".join(f"[{name}](#{name.lower()})" for name in names)


def _section(kind: type[msgspec.Struct]) -> str:
    config = kind.__struct_config__
    how = ""
    if config.array_like:
        how = "In JSON an array of its fields, in this order."
    elif config.tag is not None:
        how = f'In JSON `"{config.tag_field}": "{config.tag}"` tells it from the other detections.'
    notes = _field_notes(kind)
    annotations = kind.__annotations__
    fields = msgspec.structs.fields(kind)
    rows = [(code(f.name), code(annotations[f.name]), _default(f), notes.get(f.name, "")) for f in fields]
    head = ("field", "type", "default", "")
    text = inspect.cleandoc(kind.__doc__ or "")
    return "\n\n".join(part for part in (f"### {kind.__name__}", text, how, table(head, rows)) if part)


def _default(field: msgspec.structs.FieldInfo) -> str:
    return "" if field.default is msgspec.NODEFAULT else code(field.default)


def _field_notes(kind: type) -> dict[str, str]:
    """Docstrings below fields."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    notes: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and (text := _text(below)):
            notes[field.target.id] = text
    return notes


def _text(node: ast.stmt) -> str:
    """The docstring that `node` is, else nothing."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""
