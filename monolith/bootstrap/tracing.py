"""Wires traces. Where none are wanted nothing is wrapped and no library of theirs is loaded: they cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventsourcing.projection import Projection
from eventsourcing.store import EventStore
from monolith.application.ports import Decoders, Fetcher
from monolith.application.tracing import JobScope, NoTracing, Tracing, untraced
from monolith.settings import Settings
from monolith.traced import TracedDecoders, TracedFetcher, TracedJobs, TracedProjection, TracedStore


@asynccontextmanager
async def tracing_of(settings: Settings) -> AsyncIterator[Tracing]:
    """What is not exported yet at the end is, for a moment at most."""
    if settings.traces == "off":
        yield NoTracing()
        return
    from monolith.telemetry import start_tracing

    tracing = await asyncio.to_thread(start_tracing, settings.traces, "main")
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)


def wanted(tracing: Tracing) -> bool:
    return not isinstance(tracing, NoTracing)


def store_with_spans(store: EventStore, tracing: Tracing) -> EventStore:
    return TracedStore(store, tracing) if wanted(tracing) else store


def fetcher_with_spans(fetcher: Fetcher, tracing: Tracing) -> Fetcher:
    return TracedFetcher(fetcher, tracing) if wanted(tracing) else fetcher


def decoders_with_spans(decoders: Decoders, tracing: Tracing) -> Decoders:
    return TracedDecoders(decoders, tracing) if wanted(tracing) else decoders


def projection_with_spans(projection: Projection, tracing: Tracing) -> Projection:
    return TracedProjection(projection, tracing) if wanted(tracing) else projection


def job_scope(store: EventStore, tracing: Tracing) -> JobScope:
    return TracedJobs(store, tracing) if wanted(tracing) else untraced
