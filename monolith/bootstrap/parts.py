"""What the running program consists of, in the order in which it is built."""

from __future__ import annotations

from typing import NamedTuple

from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import DurableEventStore, EventStore
from monolith.application.handlers import VideoHandlers
from monolith.application.process_manager import ProcessManager
from monolith.application.retention import Retention
from monolith.application.retention_schedule import RetentionSchedule
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.engines import Engines
from monolith.bootstrap.live import Publishing
from monolith.bootstrap.messaging import Messaging
from monolith.bootstrap.sharing import Sharing
from monolith.bootstrap.webhooks import WebhookParts
from monolith.exports.annotated import AnnotatedVideos
from monolith.live.playback.sessions import Viewers
from monolith.messaging.segment_queue import RabbitSegmentQueue
from monolith.readmodels.analytics_rebuild import LiveAnalytics
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilds import Rebuilds
from monolith.webhooks.dispatcher import Dispatcher


class Data(NamedTuple):
    """What is stored, and what is read of it."""

    store: DurableEventStore
    read_models: ReadModels
    projection: ProjectionRunner
    analytics: LiveAnalytics
    rebuilds: Rebuilds


class Work(NamedTuple):
    """What takes videos in and analyses them. `store`: as it is measured; `segment_queue`: None where no copies share
    segments."""

    store: EventStore
    streams: VideoStreams
    engines: Engines
    manager: ProcessManager
    handlers: VideoHandlers
    publishing: Publishing
    sharing: Sharing
    segment_queue: RabbitSegmentQueue | None


class Extras(NamedTuple):
    """What is done with videos besides. `schedule`: None where the settings want none; `messaging`: None without a
    RabbitMQ."""

    annotated: AnnotatedVideos
    retention: Retention
    schedule: RetentionSchedule | None
    viewers: Viewers
    webhooks: WebhookParts
    dispatcher: Dispatcher
    messaging: Messaging | None
