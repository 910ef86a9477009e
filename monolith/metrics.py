"""What Prometheus sees of the running program: queues, workers, lag. Read when scraped, so it costs nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eventsourcing.store import DurableEventStore
from monolith.application.process_manager import ProcessManager
from monolith.application.retention import Retention
from monolith.application.retention_report import RetentionReport
from monolith.domain.jobs import FollowJob
from monolith.exports.annotated import AnnotatedVideos
from monolith.inference.service import InferenceService
from monolith.inference.shared_memory import SlotPool
from monolith.ingest.decoders import DecoderPool
from monolith.live.feeds import LiveFeeds
from monolith.live.handover import FeedHandover
from monolith.live.playback.sessions import Viewers
from monolith.live.rtmp_server import RtmpServer
from monolith.live.webrtc.publishers import WebRtcPublishers
from monolith.messaging.commands import Commands
from monolith.messaging.connection import MessageBroker
from monolith.messaging.relay import Relay
from monolith.observed import ObservedDecoders
from monolith.projection_lag import WatchedProjection
from monolith.readmodels.rebuilds import Rebuilds
from monolith.webhooks.delivery import DeliveryCounts
from monolith.webhooks.dispatcher import Dispatcher
from monolith.webhooks.service import Webhooks

Reading: TypeAlias = tuple[str, str, Callable[[], float | Mapping[str, float]]]
"""Name without prefix, help text, and where the value comes from. `name{label}` has a value for each value of its
label; a name that ends with `_total` counts, others are gauges."""

PREFIX: Final = "video_analysis_"
_LOOP_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class ReadingsCollector(Collector):
    """Metrics whose values are asked for at each scrape.

    Made in an event loop, it reads them there, also when a thread scrapes: what they read is the loop's. `blocking`:
    they read files, and are read in the thread that scrapes. A reading that fails is left out.
    """

    def __init__(
        self, registry: CollectorRegistry, readings: Iterable[Reading], *, blocking: bool = False
    ) -> None:
        self._readings = list(readings)
        self._loop = None if blocking else _running_loop()
        self._thread = threading.get_ident()
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Names only: nothing is read when the collector is registered."""
        for name, text, _ in self._readings:
            yield _family(name, text)

    def collect(self) -> Iterator[Metric]:
        for (name, text, _), value in zip(self._readings, self._values(), strict=True):
            if value is None:
                continue
            family = _family(name, text)
            if isinstance(value, Mapping):
                for label, one in value.items():
                    family.add_metric([label], one)
            else:
                family.add_metric([], value)
            yield family

    def _values(self) -> list[float | Mapping[str, float] | None]:
        if self._loop is None or threading.get_ident() == self._thread:
            return self._read_all()
        return asyncio.run_coroutine_threadsafe(self._read_in_loop(), self._loop).result(_LOOP_SECONDS)

    async def _read_in_loop(self) -> list[float | Mapping[str, float] | None]:
        return self._read_all()

    def _read_all(self) -> list[float | Mapping[str, float] | None]:
        return [_read(name, read) for name, _, read in self._readings]


def _read(name: str, read: Callable[[], float | Mapping[str, float]]) -> float | Mapping[str, float] | None:
    try:
        return read()
    except Exception:
        logger.exception("the metric %s cannot be read", name)
        return None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _family(name: str, text: str) -> GaugeMetricFamily | CounterMetricFamily:
    plain, _, label = name.partition("{")
    labels = [label.rstrip("}")] if label else []
    kind = CounterMetricFamily if plain.endswith("_total") else GaugeMetricFamily
    return kind(PREFIX + plain, text, labels=labels)


def loop_readings() -> list[Reading]:
    """What the event loop has to do."""
    return [
        ("event_loop_tasks", "Tasks of the event loop that are not done", lambda: len(asyncio.all_tasks()))
    ]


def work_readings(manager: ProcessManager, pools: Mapping[str, SlotPool]) -> list[Reading]:
    """What there is to do, and what it holds. `pools`: whose frame slots → the slots."""
    scheduler = manager.scheduler

    def lanes(what: str) -> Callable[[], dict[str, float]]:
        return lambda: {name: getattr(lane, what) for name, lane in scheduler.lanes().items()}

    def slots(what: str) -> Callable[[], dict[str, float]]:
        return lambda: {name: getattr(pool, what) for name, pool in pools.items()}

    return [
        ("open_videos", "Videos with something left to do", manager.open_videos),
        ("unreadable_videos", "Videos set aside, since their events cannot be read", lambda: len(manager.unreadable)),
        ("jobs_running{lane}", "Jobs that run", lanes("running")),
        ("jobs_waiting{lane}", "Jobs without a place yet", lanes("waiting")),
        ("job_places{lane}", "Jobs of the lane that may run at once", lanes("places")),
        ("frame_slots_in_use{pool}", "Frame slots in shared memory that hold a frame", slots("in_use")),
        ("frame_slots_free{pool}", "Frame slots in shared memory that are free", slots("free")),
        ("frame_slots_wanted{pool}", "Requests for a frame slot that wait", slots("waiting")),
    ]  # fmt: skip


def followed_readings(manager: ProcessManager, decoders: ObservedDecoders) -> list[Reading]:
    """Sources that are read while their pictures come."""

    def states() -> dict[str, float]:
        jobs = sum(isinstance(job, FollowJob) for job in manager.scheduler.running())
        connecting = decoders.followed - decoders.connected
        waiting = max(0, jobs - decoders.followed)
        return {"connected": decoders.connected, "connecting": connecting, "waiting": waiting}

    return [
        ("followed_sources{state}", "Sources that are followed; waiting: for the next try to connect", states),
    ]  # fmt: skip


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
    return [
        ("decoders", "Decoder processes that live", lambda: len(decoders.pids)),
        ("decoders_busy", "Decoder processes at work", lambda: decoders.load.busy),
        ("decoders_limit", "Decoder processes that may live at once", lambda: decoders.load.limit),
        ("decoder_starts_total", "Decoder processes started", lambda: decoders.load.started),
        ("decoder_deaths_total", "Decoder processes that crashed or were killed at work", lambda: decoders.load.lost),
    ]  # fmt: skip


def inference_readings(service: InferenceService) -> list[Reading]:
    """The workers, summed."""

    def total(name: str) -> Callable[[], float]:
        return lambda: sum(getattr(state, name) for state in service.states())

    return [
        ("inference_queue_length{queue}", "Frames that wait: for a model, or to be tried again alone",
         lambda: dict[str, float](service.waiting())),
        ("inference_queue_limit{queue}", "Frames that may wait there",
         lambda: dict[str, float].fromkeys(service.waiting(), service.limits.max_queue_size)),
        ("inference_workers", "Inference processes that live",
         lambda: sum(state.pid is not None for state in service.states())),
        ("inference_workers_ready", "Inference processes that take frames",
         lambda: sum(state.status == "ready" for state in service.states())),
        ("inference_worker_restarts_total", "Lives of inference processes after their first", total("restarts")),
        ("inference_batches_total", "Batches that inference has answered", total("batches_done")),
        ("inference_frames_total", "Frames that inference has answered", total("frames_done")),
        ("inference_frames_in_flight", "Frames that are with an inference process", total("frames_in_flight")),
        ("inference_busy_seconds_total", "Time that inference processes have worked", total("busy_seconds")),
    ]  # fmt: skip


def store_readings(store: DurableEventStore) -> list[Reading]:
    """The event store."""
    return [
        ("event_store_queue_length", "Appends that wait to be stored", lambda: store.waiting_appends),
        (
            "event_store_queue_limit",
            "Appends that may wait before callers are held up",
            lambda: store.queue_size,
        ),
        ("event_store_position", "Commit position of the newest event", lambda: store.last_position),
    ]


def projection_readings(watched: Sequence[WatchedProjection]) -> list[Reading]:
    """How far what is read lies behind the event store, for each projection."""

    def each(read: Callable[[WatchedProjection], float]) -> Callable[[], dict[str, float]]:
        return lambda: {one.name: read(one) for one in watched}

    return [
        ("projection_lag_events{projection}", "Events that it does not show yet", each(lambda one: one.lag.events())),
        ("projection_lag_seconds{projection}", "For how long an event has waited that it does not show yet",
         each(lambda one: one.lag.seconds())),
        ("projection_running{projection}", "1 while it is kept up to date",
         each(lambda one: float(one.runner.running))),
        ("projection_parked_events{projection}", "Events that could not be projected", each(lambda one: one.parked())),
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


def retention_readings(retention: Retention) -> list[Reading]:
    """The retention that runs, or the last one."""

    def of_last(read: Callable[[RetentionReport], float]) -> Callable[[], float]:
        return lambda: 0.0 if retention.report is None else read(retention.report)

    return [
        ("retention_running", "1 while a retention runs", lambda: float(retention.running)),
        ("retention_progress", "How far the retention is that runs, or was the last one, 0 to 1",
         of_last(lambda report: report.progress)),
        ("retention_failed", "1 when the last retention failed",
         of_last(lambda report: float(report.state == "failed"))),
        ("retention_bytes_freed", "Bytes that the retention has freed which runs, or was the last one",
         of_last(lambda report: float(report.bytes_freed))),
        ("retention_ended_timestamp_seconds", "When the last retention ended, in Unix seconds, 0 before the first",
         of_last(lambda report: report.ended_at or 0.0)),
    ]  # fmt: skip


def viewer_readings(viewers: Viewers) -> list[Reading]:
    """Who watches live video."""
    return [
        ("viewers", "Viewers of live video", lambda: float(len(viewers))),
        ("live_encoders", "Processes that encode live video for viewers", lambda: float(viewers.encoders)),
        ("live_encoder_pictures_late_total", "Live pictures that an encoder was too slow for",
         lambda: viewers.places.sums("late")),
        ("live_encoder_packets_damaged_total", "Live packets that an encoder could not decode",
         lambda: viewers.places.sums("damaged")),
        ("viewers_by_level{level}", "Viewers of live video by what their network carries", viewers.levels),
        ("viewer_steps_down_total", "How often a viewer got less, since its network carried no more",
         lambda: viewers.sums("steps_down")),
        ("viewer_pictures_left_out_total", "Pictures not sent to viewers whose network carries keyframes only",
         lambda: viewers.sums("left_out")),
        ("viewer_keyframe_requests_total", "Keyframes that viewers asked for",
         lambda: viewers.sums("keyframe_requests")),
        ("viewer_packets_resent_total", "Packets that were sent to viewers once more", lambda: viewers.sums("resent")),
        ("viewer_packets_not_resent_total", "Packets that viewers asked for in vain: too old, or too many",
         lambda: viewers.sums("not_resent")),
        ("viewer_packets_dropped_total", "Packets that viewers were too slow for", lambda: viewers.sums("dropped")),
    ]  # fmt: skip


def pushed_readings(feeds: LiveFeeds, handover: FeedHandover) -> list[Reading]:
    """Videos that are pushed, whatever by, and those that are followed, as far as they can be watched."""
    return [
        ("published_videos", "Videos that have a publisher now", lambda: feeds.published),
        ("followed_feeds", "Live sources that the program reads itself and that can be watched now",
         lambda: len(feeds) - feeds.published),
        ("followed_packets_dropped_total", "Packets of such sources, while watched, that the program was too slow for",
         lambda: handover.followed.dropped),
        ("handover_packets_dropped_total", "Packets of publishers that decoders were too slow for",
         lambda: handover.dropped),
    ]  # fmt: skip


def webhook_readings(service: Webhooks, dispatcher: Dispatcher, counts: DeliveryCounts) -> list[Reading]:
    """Who is told of events, and what came of it at this copy."""

    def states() -> dict[str, float]:
        active = sum(webhook.active for webhook in service.all())
        return {"active": active, "disabled": len(service.all()) - active}

    return [
        ("webhooks{state}", "Webhooks; disabled: nothing is sent to them", states),
        ("webhook_attempts_total{outcome}", "Attempts to deliver an event to a webhook",
         lambda: dict[str, float](counts.attempts)),
        ("webhook_attempt_seconds_total", "Time that these attempts took", lambda: counts.seconds),
        ("webhook_waiting", "Events that are read for webhooks and not delivered yet", lambda: dispatcher.waiting),
        ("webhook_oldest_seconds", "Age of the oldest of them", lambda: dispatcher.oldest_age),
        ("webhook_parked", "Deliveries that were given up and wait to be replayed",
         lambda: sum(len(webhook.parked) for webhook in service.all())),
        ("webhook_given_up_total", "Deliveries that were given up", lambda: counts.parked),
        ("webhook_replayed_total", "Deliveries that were given up once, and delivered at last",
         lambda: counts.replayed),
    ]  # fmt: skip


def rtmp_readings(server: RtmpServer) -> list[Reading]:
    """Those who publish by RTMP."""

    def states() -> dict[str, float]:
        return {"publishing": server.publishing, "other": server.others}

    return [
        ("rtmp_connections{state}", "Open RTMP connections; other: not yet, or no more", states),
        ("rtmp_connections_total", "RTMP connections that were let in", lambda: server.accepted),
        ("rtmp_received_bytes_total", "Bytes that came by RTMP", lambda: server.received),
        ("rtmp_refusals_total{reason}", "RTMP connections and publishes that were refused",
         lambda: dict[str, float](server.refusals)),
        ("rtmp_listening", "1 while RTMP is taken in", lambda: float(server.port > 0)),
    ]  # fmt: skip


def webrtc_readings(publishers: WebRtcPublishers) -> list[Reading]:
    """Who publishes by WebRTC, and what came of it."""

    def total(what: str) -> Callable[[], float]:
        return lambda: publishers.sums(what)

    return [
        ("webrtc_publishers{state}", "WebRTC publishers", publishers.states),
        ("webrtc_publishers_limit", "WebRTC publishers that may be at once",
         lambda: float(publishers.options.publishers)),
        ("webrtc_refusals_total{reason}", "Offers of WebRTC publishers that were refused",
         lambda: dict[str, float](publishers.refused)),
        ("webrtc_received_bytes_total", "Bytes of pictures and sound from WebRTC publishers", total("bytes")),
        ("webrtc_pictures_total", "Whole pictures from WebRTC publishers", total("pictures")),
        ("webrtc_broken_pictures_total", "Pictures from WebRTC publishers dropped for what was lost of them, or before",
         total("broken")),
        ("webrtc_lost_packets_total", "Packets of WebRTC publishers that never came", total("lost")),
        ("webrtc_keyframe_requests_total", "Keyframes asked for of WebRTC publishers", total("asked")),
    ]  # fmt: skip


def broker_readings(broker: MessageBroker) -> list[Reading]:
    """Connections to RabbitMQ."""
    return [
        ("rabbitmq_connected{connection}", "1 while the connection to RabbitMQ is there",
         lambda: {name: float(there) for name, there in broker.connections.items()}),
        ("rabbitmq_connections_lost_total", "Connections to RabbitMQ that were lost", lambda: broker.lost),
    ]  # fmt: skip


def relay_readings(relay: Relay) -> list[Reading]:
    """What is told to RabbitMQ."""
    return [
        ("relay_leads", "1 where this copy relays events to RabbitMQ", lambda: float(relay.leads)),
        ("relay_confirmed_events_total", "Events that RabbitMQ has confirmed", lambda: relay.confirmed),
        ("relay_unconfirmed_events", "Events on their way to RabbitMQ", lambda: relay.in_flight),
        ("relay_tries_total", "Connections on which the relay has begun, each at the first event not confirmed",
         lambda: relay.tries),
        ("relay_unreadable_events_total", "Events that could not be told, since their bytes do not fit their type",
         lambda: relay.unreadable),
        ("relay_lag_seconds", "For how long an event has waited that RabbitMQ has not confirmed", relay.lag_seconds),
    ]  # fmt: skip


def command_readings(commands: Commands) -> list[Reading]:
    """Submission by message."""
    return [
        ("commands_total{outcome}", "Messages with commands, by what became of them",
         lambda: dict[str, float](commands.outcomes)),
        ("commands_waiting", "Commands that are being carried out, or wait until they can be",
         lambda: commands.waiting),
    ]  # fmt: skip
