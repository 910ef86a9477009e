"""Wires what users can do with videos: for the program, and for reading alone."""

from __future__ import annotations

import time

from eventsourcing.projection import ProjectionRunner
from eventsourcing.store import EventStore
from monolith.adapters import ProjectionGate
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.video_stream import VideoStreams
from monolith.secret_urls import SecretUrls
from monolith.settings import Settings


def video_handlers(
    settings: Settings,
    store: EventStore,
    streams: VideoStreams,
    projection: ProjectionRunner,
    secrets: SecretUrls,
) -> VideoHandlers:
    """`projection`: of the read models, which an answer waits for."""
    options = FrameOptions(
        max_height=settings.frame_max_height,
        jpeg_quality=settings.jpeg_quality,
        infer_from=settings.infer_from,
    )
    return VideoHandlers(streams, store, ProjectionGate(projection), secrets, options, time.time)
