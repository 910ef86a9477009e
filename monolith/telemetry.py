"""Traces by OpenTelemetry. Import it only where traces are wanted: its libraries take time and memory.

How and where to is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`), which its SDK reads.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from monolith.application.tracing import NOTHING, TRACEPARENT, Attributes, Span
from monolith.logs import without_secrets

FLUSH_SECONDS: Final = 3.0
"""For what is not exported yet when the program ends."""
_BREAK_OFF_SECONDS: Final = 0.5
_NAME: Final = "video-analysis"
_UNKNOWN: Final = "unknown_service"

logger = logging.getLogger(__name__)


class _LogExporter(SpanExporter):
    """Each span is a line of the log: what, how long, trace/span, the span above it. The ids stand in the text, since
    lines of child processes have no fields."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            context = span.get_span_context()
            assert context is not None
            ids = f"{trace.format_trace_id(context.trace_id)}/{trace.format_span_id(context.span_id)}"
            above = f" in {trace.format_span_id(span.parent.span_id)}" if span.parent else ""
            milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
            fields = dict(span.attributes or {})
            logger.info("%s: %.1f ms, %s%s", span.name, milliseconds, ids, above, extra={"fields": fields})
        return SpanExportResult.SUCCESS


class _Ending(SpanExporter):
    """Another exporter that ends when it is told to, in the midst of an export, too: those that wait for a collector
    that is away do so for long."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._ended = False
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE if self._ended else self._exporter.export(spans)

    def shutdown(self) -> None:
        with self._lock:
            if not self._ended:
                self._ended = True
                self._exporter.shutdown()


class OpenTelemetryTracing:
    """The `Tracing` port. Spans are exported by a thread of its own; where that cannot keep up, spans are lost, never
    work held up."""

    def __init__(self, exporter: SpanExporter, *, process: str) -> None:
        self._provider = TracerProvider(resource=_resource(process), shutdown_on_exit=False)
        self._exporter = _Ending(exporter)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(_NAME)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, attributes: Attributes = NOTHING) -> Iterator[Span]:
        with self._at_work(name, attributes, None, ()) as span:
            yield span

    @contextmanager
    def continued(
        self, traceparent: str, name: str, attributes: Attributes = NOTHING, *, others: Sequence[str] = ()
    ) -> Iterator[Span]:
        contexts = [self._context(other) for other in dict.fromkeys(others) if other != traceparent]
        links = [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]
        with self._at_work(name, attributes, self._context(traceparent), links) as span:
            yield span

    def here(self) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(TRACEPARENT, "")

    def close(self) -> None:
        """Export what is left, for a moment at most. Blocks."""
        # In a thread that may stay behind: an export to a collector that does not answer cannot be broken off.
        end = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        end.start()
        end.join(FLUSH_SECONDS)
        if end.is_alive():
            self._exporter.shutdown()
            end.join(_BREAK_OFF_SECONDS)

    @contextmanager
    def _at_work(
        self, name: str, attributes: Attributes, context: Context | None, links: Sequence[trace.Link]
    ) -> Iterator[_Span]:
        started = self._tracer.start_as_current_span(
            name,
            context,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        with started as span:
            try:
                yield _Span(span)
            except Exception as error:
                text = without_secrets(f"{type(error).__name__}: {error}")
                span.set_status(trace.StatusCode.ERROR, text)
                raise

    def _context(self, traceparent: str) -> Context:
        """Without anything of this task's. A traceparent that is none counts as no trace."""
        return self._propagator.extract({TRACEPARENT: traceparent}, Context())


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def tell(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)


def start_tracing(kind: Literal["otlp", "console"], process: str) -> OpenTelemetryTracing:
    """`process`: which of the program's processes this is. `close` it when the program ends."""
    if kind == "console":
        return OpenTelemetryTracing(_LogExporter(), process=process)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OpenTelemetryTracing(OTLPSpanExporter(), process=process)


def _resource(process: str) -> Resource:
    """What the user's variables say, and what we know."""
    resource = Resource.create({"process.pid": os.getpid(), "video_analysis.process": process})
    if str(resource.attributes.get("service.name", _UNKNOWN)).startswith(_UNKNOWN):
        resource = resource.merge(Resource({"service.name": _NAME}))
    return resource
