"""Counts and times of the work itself, for Prometheus: of this process, since its start.

Events are counted when they are stored, not when they are read again: a restart or a rebuild counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from eventsourcing.events import NewEvent
from monolith.domain.models import MODEL_KEYS

PREFIX: Final = "video_analysis_"
STAGES: Final = ("fetch", "probe", "decode", "resize", "encode", "append", "project")
RUN_ENDS: Final = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}
SEGMENT_ENDS: Final = {"SegmentCompleted": "completed", "SegmentFailed": "failed"}
CONNECTIONS: Final = {"StreamConnected": "connected", "StreamDisconnected": "disconnected"}
DROPS: Final = {"the picture could not be decoded": "undecodable", "the stored picture": "unreadable"}
"""How the text of FramesDropped begins → its label; a model that refused a picture is told by the event itself."""

_STAGE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300)
_MODEL_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_DELAY_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)


class _Model(msgspec.Struct):
    key: str


class _Analysed(msgspec.Struct):
    """FramesAnalysed, without a look at its frames."""

    model: _Model
    frames: list[msgspec.Raw]


class _Dropped(msgspec.Struct):
    frame_numbers: list[int]
    reason: str
    model: str | None = None


class WorkMetrics:
    """Every label value that is known beforehand is there from the start, so that rates begin at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._stage = self._histogram(
            "stage_seconds",
            "Time of one step: a fetch, a probe, a frame decoded, resized, encoded as JPEG; an append to the event"
            " store; a batch of events projected",
            ("stage",),
            _STAGE_BUCKETS,
        )
        self._inference = self._histogram(
            "inference_seconds", "Time of a model for one frame", ("model",), _MODEL_BUCKETS
        )
        self._wait = self._histogram(
            "inference_wait_seconds",
            "Time that a frame waits for a model to begin",
            ("model",),
            _MODEL_BUCKETS,
        )
        self._delay = self._histogram(
            "projection_delay_seconds",
            "Time from an event's storage to its being shown; of the oldest event of a batch",
            ("projection",),
            _DELAY_BUCKETS,
        )
        self._events = self._counter("events_appended", "Events stored", ("type",))
        self._frames = self._counter(
            "frames_analysed", "Frames with a result of the model stored", ("model",)
        )
        self._dropped = self._counter("frames_dropped", "Sampled frames without a result", ("reason",))
        self._runs = self._counter("runs_ended", "Runs that have ended", ("end",))
        self._segments = self._counter(
            "segment_attempts_ended", "Attempts at segments that have ended", ("end",)
        )
        self._connections = self._counter(
            "source_connections", "Connections to sources that are followed", ("event",)
        )
        self._fetched = self._counter("fetched_bytes", "Bytes of videos fetched")
        self._begin_at_zero()

    def stage(self, stage: str, seconds: float) -> None:
        self._stage.labels(stage).observe(max(0.0, seconds))

    def inferred(self, model: str, wait: float, seconds: float) -> None:
        """`wait`: seconds from the request to the model's begin, by two clocks of this machine."""
        self._wait.labels(model).observe(max(0.0, wait))
        self._inference.labels(model).observe(max(0.0, seconds))

    def projected(self, projection: str, delay: float) -> None:
        self._delay.labels(projection).observe(max(0.0, delay))

    def fetched(self, size: int) -> None:
        self._fetched.inc(size)

    def stored(self, events: Iterable[NewEvent]) -> None:
        """Count what these events say."""
        for event in events:
            kind = event.event_type
            self._events.labels(kind).inc()
            if kind == "FramesAnalysed":
                analysed = msgspec.json.decode(event.data, type=_Analysed)
                self._frames.labels(analysed.model.key).inc(len(analysed.frames))
            elif kind == "FramesDropped":
                dropped = msgspec.json.decode(event.data, type=_Dropped)
                self._dropped.labels(_label_of(dropped)).inc(len(dropped.frame_numbers))
            elif kind in RUN_ENDS:
                self._runs.labels(RUN_ENDS[kind]).inc()
            elif kind in SEGMENT_ENDS:
                self._segments.labels(SEGMENT_ENDS[kind]).inc()
            elif kind in CONNECTIONS:
                self._connections.labels(CONNECTIONS[kind]).inc()

    def _begin_at_zero(self) -> None:
        known: list[tuple[Counter | Histogram, Iterable[str]]] = [
            (self._stage, STAGES),
            (self._inference, MODEL_KEYS),
            (self._wait, MODEL_KEYS),
            (self._frames, MODEL_KEYS),
            (self._dropped, (*DROPS.values(), "model", "lost")),
            (self._runs, RUN_ENDS.values()),
            (self._segments, SEGMENT_ENDS.values()),
            (self._connections, CONNECTIONS.values()),
        ]
        for family, labels in known:
            for label in labels:
                family.labels(label)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self._registry)


def _label_of(dropped: _Dropped) -> str:
    if dropped.model is not None:
        return "model"
    return next((label for start, label in DROPS.items() if dropped.reason.startswith(start)), "lost")
