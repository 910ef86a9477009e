"""What Prometheus sees of the running program: queues, workers, lag. Read when scraped, so it costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.projection import ProjectionRunner
from monolith.application.process_manager import ProcessManager
from monolith.exports.annotated import AnnotatedVideos
from monolith.inference.service import InferenceService
from monolith.inference.shared_memory import SlotPool
from monolith.ingest.decoders import DecoderPool
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilds import Rebuilds

Reading: TypeAlias = tuple[str, str, Callable[[], float]]
"""Name without prefix, help text, and where the value comes from."""


class ReadingsCollector(Collector):
    """Gauges whose values are asked for at each scrape."""

    def __init__(self, registry: CollectorRegistry, readings: Iterable[Reading]) -> None:
        self._readings = list(readings)
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Names only: nothing is read when the collector is registered."""
        for name, text, _ in self._readings:
            yield GaugeMetricFamily(f"video_analysis_{name}", text)

    def collect(self) -> Iterator[Metric]:
        for name, text, read in self._readings:
            yield GaugeMetricFamily(f"video_analysis_{name}", text, value=read())


def work_readings(manager: ProcessManager, slots: SlotPool) -> list[Reading]:
    """What there is to do, and what it holds."""
    return [
        ("open_videos", "Videos with something left to do", manager.open_videos),
        ("jobs_running", "Jobs that run", lambda: len(manager.scheduler.running())),
        ("jobs_waiting", "Jobs without a place yet", lambda: manager.scheduler.waiting()),
        ("frame_slots_in_use", "Frame slots in shared memory that hold a frame", lambda: slots.in_use),
        ("frame_slots_free", "Frame slots in shared memory that are free", lambda: slots.free),
    ]


def annotated_readings(videos: AnnotatedVideos) -> list[Reading]:
    return [
        ("annotated_videos_running", "Annotated videos that are being made", lambda: videos.running),
        ("annotated_videos_waiting", "Annotated videos that wait for their turn", lambda: videos.waiting),
        (
            "annotated_videos_bytes",
            "Disk space that finished annotated videos take",
            lambda: videos.kept_bytes,
        ),
    ]


def decoder_readings(decoders: DecoderPool) -> list[Reading]:
    return [("decoders", "Decoder processes that live", lambda: len(decoders.pids))]


def inference_readings(service: InferenceService) -> list[Reading]:
    """The workers, summed."""

    def total(name: str) -> Callable[[], float]:
        return lambda: sum(getattr(state, name) for state in service.states())

    return [
        ("inference_frames_waiting", "Frames that wait for a model", lambda: sum(service.waiting().values())),
        ("inference_workers", "Inference processes that live",
         lambda: sum(state.pid is not None for state in service.states())),
        ("inference_worker_restarts", "Lives of inference processes after their first", total("restarts")),
        ("inference_batches_done", "Batches that inference has answered", total("batches_done")),
        ("inference_frames_done", "Frames that inference has answered", total("frames_done")),
        ("inference_frames_in_flight", "Frames that are with an inference process", total("frames_in_flight")),
        ("inference_busy_seconds", "Time that inference processes have worked, in seconds", total("busy_seconds")),
    ]  # fmt: skip


def store_readings(
    store: SqliteEventStore, projection: ProjectionRunner, read_models: ReadModels
) -> list[Reading]:
    """The event store, and how far what is read lies behind it."""
    return [
        ("event_store_waiting_appends", "Appends that wait to be stored", lambda: store.waiting_appends),
        ("event_store_position", "Commit position of the newest event", lambda: store.last_position),
        ("projection_lag", "Events that the read models do not show yet",
         lambda: max(0, store.last_position - (projection.position or 0))),
        ("projection_running", "1 while the read models are kept up to date", lambda: float(projection.running)),
        ("projection_parked_events", "Events that could not be projected", lambda: read_models.projection.parked),
    ]  # fmt: skip


def rebuild_readings(rebuilds: Rebuilds) -> list[Reading]:
    """The rebuild that runs, or the last one."""
    return [
        ("rebuild_running", "1 while something is built again from all events", lambda: float(rebuilds.running)),
        ("rebuild_progress", "How far the rebuild is that runs, or was the last one, 0 to 1",
         lambda: rebuilds.status.progress),
        ("rebuild_events_done", "Events that the rebuild has projected which runs, or was the last one",
         lambda: sum(part.events_done for part in rebuilds.status.projections)),
        ("rebuild_failed", "1 when the last rebuild failed", lambda: float(rebuilds.status.state == "failed")),
    ]  # fmt: skip
