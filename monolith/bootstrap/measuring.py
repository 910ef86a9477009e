"""Wires what Prometheus sees of the running program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from monolith.bootstrap.data import EVENTS, READ_MODELS
from monolith.bootstrap.messaging import Messaging
from monolith.bootstrap.parts import Data, Extras, Work
from monolith.disk_watch import DiskWatch
from monolith.machine_metrics import add_process_metrics, database_readings, disk_readings, log_readings
from monolith.metrics import (
    Reading,
    ReadingsCollector,
    annotated_readings,
    broker_readings,
    command_readings,
    followed_readings,
    inference_readings,
    loop_readings,
    projection_readings,
    pushed_readings,
    rebuild_readings,
    relay_readings,
    retention_readings,
    rtmp_readings,
    store_readings,
    viewer_readings,
    webhook_readings,
    webrtc_readings,
    work_readings,
)
from monolith.projection_lag import WatchedProjection


def measure(
    registry: CollectorRegistry,
    folder: Path,
    projections: Sequence[WatchedProjection],
    disk: DiskWatch,
    data: Data,
    work: Work,
    extras: Extras,
) -> None:
    """Register what is read at each scrape. `folder`: the data directory."""
    readings = [
        *loop_readings(),
        *work_readings(work.manager, work.engines.pools),
        *followed_readings(work.manager, work.engines.decoders),
        *inference_readings(work.engines.inference),
        *store_readings(data.store),
        *projection_readings(projections),
        *disk_readings(disk),
        *log_readings(),
        *annotated_readings(extras.annotated),
        *rebuild_readings(data.rebuilds),
        *retention_readings(extras.retention),
        *viewer_readings(extras.viewers),
        *webhook_readings(extras.webhooks.service, extras.dispatcher, extras.webhooks.kit.counts),
        *webrtc_readings(work.publishing.webrtc),
        *pushed_readings(work.publishing.sources.feeds, work.publishing.handover),
        *(rtmp_readings(work.publishing.rtmp) if work.publishing.rtmp else ()),
        *_messaging_readings(extras.messaging),
    ]
    ReadingsCollector(registry, readings)
    add_process_metrics(registry)
    databases = {"events": folder / EVENTS, "read_models": folder / READ_MODELS}
    ReadingsCollector(registry, database_readings(databases), blocking=True)


def _messaging_readings(messaging: Messaging | None) -> list[Reading]:
    if messaging is None:
        return []
    return [
        *broker_readings(messaging.broker),
        *relay_readings(messaging.relay),
        *command_readings(messaging.commands),
    ]
