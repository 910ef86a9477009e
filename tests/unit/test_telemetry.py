"""Spans: whose steps they are, what they tell, and that they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.events import NewEvent
from eventsourcing.versions import ANY
from monolith import telemetry
from monolith.application.tracing import TRACEPARENT, trace_id_of
from monolith.domain.events import video_stream
from monolith.domain.jobs import PurgeJob
from monolith.telemetry import OpenTelemetryTracing
from monolith.traced import TracedJobs, TracedProjection, TracedStore
from tests.builders import VIDEO
from tests.contract.helpers import new
from tests.unit.eventsourcing.test_projection import Rows

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"


class Traced:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OpenTelemetryTracing(self.exporter, process="main")

    def spans(self) -> dict[str, ReadableSpan]:
        """By name, when all have ended."""
        self.tracing.close()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    one = Traced()
    yield one
    one.tracing.close()


def trace_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent else None


def test_a_step_goes_on_with_the_trace_of_its_caller(traced: Traced) -> None:
    with traced.tracing.continued(CALLER, "outer"), traced.tracing.span("inner", {"frames": 3}):
        here = traced.tracing.here()
    assert traced.tracing.here() == ""
    spans = traced.spans()
    assert trace_of(spans["outer"]) == trace_of(spans["inner"]) == trace_id_of(here) == trace_id_of(CALLER)
    assert parent_of(spans["outer"]) == "00f067aa0ba902b7"
    assert dict(spans["inner"].attributes or {}) == {"frames": 3}


@pytest.mark.parametrize(
    "traceparent", ["", "nonsense", CALLER[:-3], "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
def test_what_names_no_trace_begins_one(traced: Traced, traceparent: str) -> None:
    with traced.tracing.span("around"), traced.tracing.continued(traceparent, "begun"):
        pass
    spans = traced.spans()
    assert spans["begun"].parent is None
    assert trace_of(spans["begun"]) != trace_of(spans["around"])


def test_a_batch_is_linked_to_the_traces_of_all_that_it_is_for(traced: Traced) -> None:
    with traced.tracing.continued(CALLER, "infer", others=[OTHER, OTHER, CALLER]):
        pass
    span = traced.spans()["infer"]
    assert trace_of(span) == trace_id_of(CALLER)
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [trace_id_of(OTHER)]


def test_what_fails_is_told_without_secrets_and_raised_on(traced: Traced) -> None:
    with pytest.raises(ValueError, match="pass"), traced.tracing.span("fetch"):
        raise ValueError("no answer from http://user:password@host/film.mp4?token=abc")
    span = traced.spans()["fetch"]
    assert span.status.status_code is StatusCode.ERROR
    assert "ValueError" in (span.status.description or "")
    assert "password" not in span.to_json()
    assert "abc" not in span.to_json()


async def test_events_carry_the_trace_that_made_them_and_leases_make_none(traced: Traced) -> None:
    memory = MemoryEventStore()
    store = TracedStore(memory, traced.tracing)
    await store.append("lease-x", [new("held")], expected_version=ANY)
    with traced.tracing.continued(CALLER, "request"):
        await store.append("video-1", [new("submitted")], expected_version=ANY)
    held, submitted = await memory.read_all()
    assert TRACEPARENT not in held.metadata
    spans = traced.spans()
    assert set(spans) == {"request", "append"}
    context = spans["append"].get_span_context()
    assert context is not None
    assert submitted.metadata[TRACEPARENT] == f"00-{trace_id_of(CALLER)}-{context.span_id:016x}-01"


async def test_a_submission_without_a_request_begins_a_trace(traced: Traced) -> None:
    memory = MemoryEventStore()
    submitted = NewEvent(event_id=uuid4(), event_type="VideoSubmitted", data=b"{}")
    await TracedStore(memory, traced.tracing).append("video-1", [submitted], expected_version=ANY)
    [recorded] = await memory.read_all()
    assert trace_id_of(recorded.metadata[TRACEPARENT]) == trace_of(traced.spans()["append"])


async def test_a_job_and_a_projection_are_steps_of_what_caused_the_event(traced: Traced) -> None:
    memory = MemoryEventStore()
    store = TracedStore(memory, traced.tracing)
    with traced.tracing.continued(CALLER, "request"):
        await store.append(video_stream(VIDEO), [new("a"), new("b")], expected_version=ANY)
    with traced.tracing.continued(OTHER, "another request"):
        await store.append("video-2", [new("c")], expected_version=ANY)
    async with TracedJobs(memory, traced.tracing)(PurgeJob(VIDEO)):
        here = traced.tracing.here()
    assert trace_id_of(here) == trace_id_of(CALLER)

    rows = Rows()
    await TracedProjection(rows, traced.tracing).apply(await memory.read_all())
    traced.tracing.close()
    projected = [span for span in traced.exporter.get_finished_spans() if span.name == "project"]
    assert {trace_of(span): (span.attributes or {})["events"] for span in projected} == {
        trace_id_of(CALLER): 2,
        trace_id_of(OTHER): 1,
    }
    assert rows.rows == ["a", "b", "c"]


class _Stuck(SpanExporter):
    """Waits for a collector that never answers, until it is told to end."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.exports = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exports += 1
        self.told.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.told.set()


def test_the_end_waits_for_no_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 0.1)
    stuck = _Stuck()
    tracing = OpenTelemetryTracing(stuck, process="main")
    for _ in range(2000):
        with tracing.span("lost"):
            pass
    tracing.close()
    assert stuck.told.is_set()
    assert stuck.exports < 4


class _Deaf(SpanExporter):
    """Waits for a collector that never answers, whatever it is told."""

    def __init__(self) -> None:
        self.answered = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answered.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        return


def test_the_end_comes_though_an_export_cannot_be_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 0.1)
    deaf = _Deaf()
    tracing = OpenTelemetryTracing(deaf, process="main")
    with tracing.span("lost"):
        pass
    tracing.close()
    assert not deaf.answered.is_set()
    deaf.answered.set()
