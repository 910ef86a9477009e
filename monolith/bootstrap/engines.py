"""Wires what decodes and judges: frame slots, decoders, inference."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry

from monolith.adapters import PoolDecoders, PooledInference
from monolith.application.attempt import Resources
from monolith.application.judging import MAX_HELD_LIVE, MAX_LENT
from monolith.application.ports import FrameWatcher
from monolith.application.process_manager import CONCURRENT_LIVE_STEPS
from monolith.application.tracing import Tracing
from monolith.bootstrap.tracing import decoders_with_spans
from monolith.disk_watch import DiskWatch, SlotsWhileRoom
from monolith.domain.models import MODEL_KEYS
from monolith.inference.pool import WorkerPool
from monolith.inference.service import InferenceService, ServiceLimits
from monolith.inference.shared_memory import FrameSlots, SlotPool
from monolith.inference.sizing import (
    Sizing,
    available_cores,
    available_memory,
    live_slot_count,
    size_workers,
    slot_count,
)
from monolith.inference.supervisor import PoolLimits, WorkerLaunch
from monolith.inference.worker import WorkerConfig
from monolith.ingest.decoders import DecoderPool
from monolith.machine_metrics import (
    child_readings,
)
from monolith.metrics import (
    ReadingsCollector,
    decoder_readings,
)
from monolith.observed import (
    ObservedDecoders,
    ObservedInference,
)
from monolith.settings import Settings
from monolith.work_metrics import WorkMetrics

CONCURRENT_FETCHES: Final = 4
_WIDEST_SLOT: Final = 2.4
"""Slots hold pictures of up to this aspect ratio (21:9) at full height; wider ones are scaled down to fit."""

logger = logging.getLogger(__name__)


class Engines(NamedTuple):
    """What attempts at segments share, and what is measured of it. `live_sources`: as many as memory has frames for;
    `pools`: the frame slots by what they are for."""

    resources: Resources
    decoders: ObservedDecoders
    inference: InferenceService
    pools: dict[str, SlotPool]
    live_sources: int


async def start_engines(
    stack: AsyncExitStack,
    settings: Settings,
    registry: CollectorRegistry,
    work: WorkMetrics,
    disk: DiskWatch,
    *,
    max_height: int,
    watcher: FrameWatcher,
    tracing: Tracing,
) -> Engines:
    """Start everything that decodes and judges pictures of up to `max_height`; `stack` ends it."""
    sizing, segments = sizing_of(settings), concurrent_segments(settings)
    slots, for_files = _frame_slots(sizing, segments, max_height, settings.max_live_sources)
    stack.callback(slots.close)
    live_sources = _live_sources(settings, slots.count - for_files)
    service = _inference_service(settings, sizing, slots, tracing)
    stack.push_async_callback(service.close)
    processes = _decoder_processes(segments, live_sources)
    decoders = DecoderPool(slots, processes, silence_timeout=settings.decoder_deadline)
    await stack.enter_async_context(decoders)
    await service.start()
    logger.info("%d inference workers of %d threads are ready", sizing.workers, sizing.threads)
    children = {"decoder": lambda: decoders.pids, "worker": service.pids}
    ReadingsCollector(registry, decoder_readings(decoders))
    ReadingsCollector(registry, child_readings(children), blocking=True)
    files, live = SlotPool(for_files), SlotPool(slots.count - for_files, first=for_files)
    observed = ObservedDecoders(PoolDecoders(decoders, probe_deadline=settings.probe_deadline), work)
    lent, lent_live = (SlotsWhileRoom(pool, disk.until_room) for pool in (files, live))
    inference = ObservedInference(PooledInference(service), work)
    resources = Resources(decoders_with_spans(observed, tracing), lent, inference, lent_live, watcher)
    return Engines(resources, observed, service, {"files": files, "live": live}, live_sources)


def concurrent_segments(settings: Settings) -> int:
    """Segments of files that are analysed at the same time."""
    return settings.max_concurrent_segments or max(2, sizing_of(settings).workers)


def _live_sources(settings: Settings, slots: int) -> int:
    """As many as have two slots each."""
    sources = min(settings.max_live_sources, slots // 2)
    if sources < settings.max_live_sources:
        logger.warning("memory holds the frames of %d live sources at once, not more", sources)
    return sources


def _decoder_processes(segments: int, live_sources: int) -> int:
    """At most: for files, sources with an end and live ones at work; and to look at new ones, or end them."""
    return 2 * segments + CONCURRENT_FETCHES + live_sources + 3 * CONCURRENT_LIVE_STEPS


def sizing_of(settings: Settings) -> Sizing:
    return size_workers(
        available_cores(),
        available_memory(),
        workers=settings.workers or None,
        threads=settings.worker_threads or None,
    )


def _frame_slots(sizing: Sizing, segments: int, max_height: int, live_sources: int) -> tuple[FrameSlots, int]:
    """All slots, and how many of them, from the first on, are for files; the others are for live sources."""
    slot_bytes = 3 * max_height * int(max_height * _WIDEST_SLOT)
    memory = available_memory()
    for_files = slot_count(
        workers=sizing.workers,
        depth=PoolLimits().depth,
        max_batch_size=ServiceLimits().max_batch_size,
        decoders=segments,
        slots_per_decoder=MAX_LENT,
        slot_bytes=slot_bytes,
        memory=memory,
    )
    live = live_slot_count(
        sources=live_sources,
        slots_per_source=MAX_HELD_LIVE,
        taken=for_files,
        slot_bytes=slot_bytes,
        memory=memory,
    )
    return FrameSlots.create(for_files + live, slot_bytes), for_files


def _inference_service(
    settings: Settings, sizing: Sizing, slots: FrameSlots, tracing: Tracing
) -> InferenceService:
    config = WorkerConfig(
        models=MODEL_KEYS,
        threads=sizing.threads,
        precision=settings.precision,
        infer_from=settings.infer_from,
        traces=settings.traces,
    )
    launch = WorkerLaunch(
        config=config, slots_fd=slots.fd, slot_count=slots.count, slot_bytes=slots.slot_bytes
    )
    limits = PoolLimits(
        start_timeout=settings.worker_start_deadline, batch_timeout=settings.worker_batch_deadline
    )
    pool = WorkerPool(launch, workers=sizing.workers, limits=limits)
    return InferenceService(pool, MODEL_KEYS, trace=tracing.here)
