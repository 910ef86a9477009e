"""The ports with spans: each passes every call on as a step of a trace. Only there where traces are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from eventsourcing.errors import EventStoreError
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.forwarding import ForwardingProjection, ForwardingStore
from eventsourcing.projection import Projection
from eventsourcing.store import EventStore
from eventsourcing.versions import ExpectedVersion
from monolith.application.log_context import fields_of, log_context, name_of
from monolith.application.ports import DecodeRequest, Decoders, DecodeSession, Fetcher, FollowSession
from monolith.application.tracing import TRACEPARENT, Tracing, trace_id_of
from monolith.domain.events import Transport, VideoSubmitted, video_stream
from monolith.domain.jobs import Job
from monolith.domain.segment import SourceInfo
from monolith.ingest.messages import FollowSource, SourceAccess

_VIDEOS_REMEMBERED: Final = 1000
_BEGINNING: Final = VideoSubmitted.__name__


class TracedStore(ForwardingStore):
    """The `EventStore` port. What is appended within a span carries its traceparent; what is not within one (leases)
    makes no trace of its own, but for a video that is submitted by no request (on the command line)."""

    def __init__(self, store: EventStore, tracing: Tracing) -> None:
        super().__init__(store)
        self._tracing = tracing

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if not self._tracing.here() and not any(event.event_type == _BEGINNING for event in events):
            return await self._store.append(stream_name, events, expected_version=expected_version)
        about: dict[str, str | int] = {
            "stream": stream_name,
            "events": len(events),
            "event_types": ",".join(sorted({event.event_type for event in events})),
        }
        with self._tracing.span("append", about):
            told = _with_trace(events, self._tracing.here())
            return await self._store.append(stream_name, told, expected_version=expected_version)


def _with_trace(events: Iterable[NewEvent], traceparent: str) -> list[NewEvent]:
    return [
        msgspec.structs.replace(event, metadata={**event.metadata, TRACEPARENT: traceparent})
        for event in events
    ]


class TracedJobs:
    """A `JobScope`: a job is a step of the trace in which its video was submitted, on whichever copy of the program and
    after however many restarts."""

    def __init__(self, store: EventStore, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing
        self._known: dict[str, str] = {}

    @asynccontextmanager
    async def __call__(self, job: Job) -> AsyncIterator[None]:
        traceparent = await self._trace_of(job.video_id)
        with (
            self._tracing.continued(traceparent, name_of(type(job)), fields_of(job)),
            log_context(trace_id=trace_id_of(self._tracing.here())),
        ):
            yield

    async def _trace_of(self, video_id: str) -> str:
        """ "" where the video was submitted without, or the store does not say: a trace is no reason to fail."""
        if video_id not in self._known:
            try:
                first = await self._store.read_stream(video_stream(video_id), limit=1)
            except EventStoreError:
                return ""
            self._known[video_id] = first[0].metadata.get(TRACEPARENT, "") if first else ""
            if len(self._known) > _VIDEOS_REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[video_id]


class TracedFetcher:
    """The `Fetcher` port."""

    def __init__(self, fetcher: Fetcher, tracing: Tracing) -> None:
        self._fetcher = fetcher
        self._tracing = tracing

    async def fetch(self, url: str, target: Path) -> int:
        with self._tracing.span("fetch"):
            return await self._fetcher.fetch(url, target)

    async def transport_of(self, url: str) -> Transport:
        with self._tracing.span("ask the source"):
            return await self._fetcher.transport_of(url)


class TracedDecoders:
    """The `Decoders` port."""

    def __init__(self, decoders: Decoders, tracing: Tracing) -> None:
        self._decoders = decoders
        self._tracing = tracing

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo:
        with self._tracing.span("probe and scan"):
            return await self._decoders.probe(path, scan_path, segment_seconds)

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        with self._tracing.span("connect and probe", {"transport": access.transport}):
            return await self._decoders.probe_source(access)

    @asynccontextmanager
    async def open(self, request: DecodeRequest) -> AsyncIterator[DecodeSession]:
        with self._tracing.span("decode"):
            async with self._decoders.open(request) as session:
                yield session

    @asynccontextmanager
    async def follow(self, request: FollowSource) -> AsyncIterator[FollowSession]:
        with self._tracing.span("connection"):
            async with self._decoders.follow(request) as session:
                yield session


class TracedProjection(ForwardingProjection):
    """The `Projection` of a runner: a batch is a step of each trace that its events are of."""

    def __init__(self, projection: Projection, tracing: Tracing) -> None:
        super().__init__(projection)
        self._tracing = tracing

    async def apply(self, events: list[RecordedEvent]) -> None:
        with ExitStack() as spans:
            for traceparent, count in _traces_of(events).items():
                about: dict[str, str | int] = {"projection": self.name, "events": count}
                spans.enter_context(self._tracing.continued(traceparent, "project", about))
            await self._projection.apply(events)


def _traces_of(events: Iterable[RecordedEvent]) -> dict[str, int]:
    """Of each trace, the traceparent of its first event, and how many of `events` belong to it."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for event in events:
        traceparent = event.metadata.get(TRACEPARENT)
        if traceparent is not None:
            parent = first.setdefault(trace_id_of(traceparent) or "", traceparent)
            counts[parent] = counts.get(parent, 0) + 1
    return counts
