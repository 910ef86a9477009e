"""Wires the process manager and the jobs that it has done."""

from __future__ import annotations

import time
from typing import NamedTuple

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from monolith.adapters import CheckedFetcher
from monolith.application.following import Following
from monolith.application.ingestion import Ingestion
from monolith.application.open_videos import OpenVideos, Snapshots
from monolith.application.pipeline import SegmentPipeline
from monolith.application.process_manager import CONCURRENT_LIVE_STEPS, ProcessManager
from monolith.application.purge import Purge
from monolith.application.segments import Segments
from monolith.application.source_access import SourceAccesses
from monolith.application.tracing import Tracing
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.engines import CONCURRENT_FETCHES, Engines
from monolith.bootstrap.live import Publishing
from monolith.bootstrap.segment_queue import segment_queue
from monolith.bootstrap.sharing import Sharing
from monolith.bootstrap.tracing import fetcher_with_spans, job_scope
from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.fetch import Fetcher, FetchLimits
from monolith.ingest.messages import SourceAccess
from monolith.messaging.connection import MessageBroker
from monolith.messaging.segment_queue import RabbitSegmentQueue
from monolith.observed import (
    ObservedFetcher,
)
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings
from monolith.storage import FileStorage
from monolith.work_metrics import WorkMetrics


class Foundations(NamedTuple):
    """What jobs stand on. `store`: as the jobs use it; `broker`: None where the settings name no RabbitMQ."""

    settings: Settings
    store: EventStore
    codec: EventCodec
    streams: VideoStreams
    storage: FileStorage
    secrets: SecretUrls
    publishing: Publishing
    metrics: WorkMetrics
    sharing: Sharing
    broker: MessageBroker | None
    tracing: Tracing


def process_manager(
    base: Foundations, engines: Engines, open_videos: OpenVideos, snapshots: Snapshots, *, segments: int
) -> tuple[ProcessManager, RabbitSegmentQueue | None]:
    """And the queue by which copies share the segments of files, where there is one. `segments`: how many of files are
    analysed at the same time."""
    settings = base.settings
    accesses = SourceAccesses(base.secrets, _source_access(settings), base.publishing.handover)
    work_on = _segments(base, engines)
    scope = job_scope(base.store, base.tracing)
    pipeline = SegmentPipeline(work_on, scope)
    following = Following(
        work_on,
        accesses,
        base.publishing.sources,
        segment_seconds=settings.segment_seconds,
        live_silence=settings.live_silence,
    )
    queue = _segment_queue(base, pipeline, segments)
    manager = ProcessManager(
        base.store,
        base.streams,
        _ingestion(base, engines, accesses),
        pipeline,
        following,
        Purge(base.streams, base.store, base.storage, base.secrets, time.time),
        base.publishing.sources,
        open_videos,
        snapshots,
        time.time,
        concurrent_segments=segments,
        placement=base.sharing.placement(base.publishing.sources.has_publisher, hands_out=queue is not None),
        leadership=base.sharing.leadership,
        segment_queue=queue,
        concurrent_fetches=CONCURRENT_FETCHES,
        live_sources=engines.live_sources,
        keep_sources=settings.keep_sources,
        scope=scope,
    )
    return manager, queue


def _segment_queue(base: Foundations, pipeline: SegmentPipeline, places: int) -> RabbitSegmentQueue | None:
    if base.broker is None or base.sharing.leases is None:
        return None
    return segment_queue(
        base.broker, base.store, base.codec, base.streams, pipeline, base.sharing, places=places
    )


def _ingestion(base: Foundations, engines: Engines, accesses: SourceAccesses) -> Ingestion:
    fetcher = ObservedFetcher(CheckedFetcher(_fetcher(base.settings)), base.metrics)
    return Ingestion(
        base.streams,
        fetcher_with_spans(fetcher, base.tracing),
        engines.resources.decoders,
        base.storage,
        accesses,
        base.publishing.sources,
        time.time,
        segment_seconds=base.settings.segment_seconds,
        live_silence=base.settings.live_silence,
        publish_wait=base.settings.publish_wait,
        live_probes=CONCURRENT_LIVE_STEPS,
    )


def _segments(base: Foundations, engines: Engines) -> Segments:
    return Segments(
        base.streams,
        base.store,
        base.codec,
        base.storage,
        engines.resources,
        time.time,
        owner=base.sharing.owner,
        attempts_allowed=base.settings.segment_attempts,
    )


def _source_access(settings: Settings) -> SourceAccess:
    """What may be connected to for a source that is followed; the URL is to be filled in."""
    return SourceAccess(
        url="",
        transport="rtsp",
        loopback_only=settings.serves_this_machine_only,
        networks=tuple(map(str, settings.allowed_networks)),
        rtsp_transport=settings.rtsp_transport,
        connect_timeout=settings.fetch_connect_timeout,
        read_timeout=settings.fetch_read_timeout,
        max_bytes=settings.max_source_bytes,
        total_timeout=settings.fetch_timeout,
    )


def _fetcher(settings: Settings) -> Fetcher:
    policy = AddressPolicy(settings.serves_this_machine_only, settings.allowed_networks)
    limits = FetchLimits(
        max_bytes=settings.max_source_bytes,
        connect_timeout=settings.fetch_connect_timeout,
        read_timeout=settings.fetch_read_timeout,
        total_timeout=settings.fetch_timeout,
        min_rate=settings.fetch_min_rate,
        min_free_bytes=settings.min_free_bytes,
    )
    return Fetcher(policy, limits)
