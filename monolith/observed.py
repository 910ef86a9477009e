"""The ports with a stopwatch: each passes every call on, and notes how long it took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.forwarding import ForwardingProjection, ForwardingStore
from eventsourcing.projection import Projection
from eventsourcing.store import EventStore
from eventsourcing.versions import ExpectedVersion
from monolith.application.ports import (
    DecodeRequest,
    DecoderMessage,
    Decoders,
    DecodeSession,
    Fetcher,
    FollowMessage,
    FollowSession,
    Inference,
)
from monolith.domain.events import Transport
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SourceInfo
from monolith.inference.messages import FrameRef, FrameResult
from monolith.ingest.messages import Connected, FollowSource, FrameReady, SourceAccess, StartSegment
from monolith.work_metrics import WorkMetrics


@contextmanager
def timed(metrics: WorkMetrics, stage: str) -> Iterator[None]:
    """What fails or is cancelled has no time."""
    start = time.perf_counter()
    yield
    metrics.stage(stage, time.perf_counter() - start)


class ObservedFetcher:
    """The `Fetcher` port."""

    def __init__(self, fetcher: Fetcher, metrics: WorkMetrics) -> None:
        self._fetcher = fetcher
        self._metrics = metrics

    async def fetch(self, url: str, target: Path) -> int:
        with timed(self._metrics, "fetch"):
            size = await self._fetcher.fetch(url, target)
        self._metrics.fetched(size)
        return size

    async def transport_of(self, url: str) -> Transport:
        return await self._fetcher.transport_of(url)


class ObservedInference:
    """The `Inference` port."""

    def __init__(self, inference: Inference, metrics: WorkMetrics) -> None:
        self._inference = inference
        self._metrics = metrics

    @property
    def identities(self) -> dict[str, ModelIdentity]:
        return self._inference.identities

    async def infer(self, model_key: str, frame: FrameRef, *, key: str) -> FrameResult:
        asked = time.time()
        result = await self._inference.infer(model_key, frame, key=key)
        self._metrics.inferred(model_key, result.started_at - asked, result.seconds)
        return result


class ObservedDecoders:
    """The `Decoders` port. `connected`: sources that are followed and give pictures now."""

    def __init__(self, decoders: Decoders, metrics: WorkMetrics) -> None:
        self._decoders = decoders
        self._metrics = metrics
        self.followed = 0
        self.connected = 0

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo:
        with timed(self._metrics, "probe"):
            return await self._decoders.probe(path, scan_path, segment_seconds)

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        with timed(self._metrics, "probe"):
            return await self._decoders.probe_source(access)

    def open(self, request: DecodeRequest) -> AbstractAsyncContextManager[DecodeSession]:
        return self._open(request)

    @asynccontextmanager
    async def _open(self, request: DecodeRequest) -> AsyncIterator[DecodeSession]:
        async with self._decoders.open(request) as session:
            yield _ObservedDecodeSession(session, self)

    def follow(self, request: FollowSource) -> AbstractAsyncContextManager[FollowSession]:
        return self._follow(request)

    @asynccontextmanager
    async def _follow(self, request: FollowSource) -> AsyncIterator[FollowSession]:
        self.followed += 1
        observed: _ObservedFollowSession | None = None
        try:
            async with self._decoders.follow(request) as session:
                observed = _ObservedFollowSession(session, self)
                yield observed
        finally:
            self.followed -= 1
            self.connected -= observed is not None and observed.connected

    def note(self, message: object) -> None:
        """Times that a decoder tells."""
        if isinstance(message, FrameReady):
            self._metrics.stage("decode", message.decode_seconds)
            self._metrics.stage("resize", message.resize_seconds)
            self._metrics.stage("encode", message.encode_seconds)


class _ObservedDecodeSession:
    def __init__(self, session: DecodeSession, decoders: ObservedDecoders) -> None:
        self._session = session
        self._decoders = decoders

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return self._session.outstanding_slots

    async def lend(self, slots: Sequence[int]) -> None:
        await self._session.lend(slots)

    async def __aiter__(self) -> AsyncIterator[DecoderMessage]:
        async for message in self._session:
            self._decoders.note(message)
            yield message


class _ObservedFollowSession:
    def __init__(self, session: FollowSession, decoders: ObservedDecoders) -> None:
        self._session = session
        self._decoders = decoders
        self.connected = False

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return self._session.outstanding_slots

    async def lend(self, slots: Sequence[int]) -> None:
        await self._session.lend(slots)

    async def start_segment(self, start: StartSegment) -> None:
        await self._session.start_segment(start)

    async def cancel(self) -> None:
        await self._session.cancel()

    async def __aiter__(self) -> AsyncIterator[FollowMessage]:
        async for message in self._session:
            self._decoders.note(message)
            if isinstance(message, Connected) and not self.connected:
                self.connected = True
                self._decoders.connected += 1
            yield message


class ObservedStore(ForwardingStore):
    """The `EventStore` port."""

    def __init__(self, store: EventStore, metrics: WorkMetrics) -> None:
        super().__init__(store)
        self._metrics = metrics

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        with timed(self._metrics, "append"):
            result = await self._store.append(stream_name, events, expected_version=expected_version)
        self._metrics.stored(events)
        return result


class ObservedProjection(ForwardingProjection):
    """The `Projection` of a runner."""

    def __init__(self, projection: Projection, metrics: WorkMetrics) -> None:
        super().__init__(projection)
        self._metrics = metrics

    async def apply(self, events: list[RecordedEvent]) -> None:
        with timed(self._metrics, "project"):
            await self._projection.apply(events)
        self._metrics.projected(self.name, time.time() - events[0].recorded_at)
