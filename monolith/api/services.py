"""What the API needs of the rest of the program, handed to `create_app`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from prometheus_client import CollectorRegistry

from eventsourcing.store import EventStore
from monolith.access.control import AccessControl
from monolith.access.refusals import Refusals
from monolith.api.problems import ApiError
from monolith.application.push_sources import PushSources
from monolith.application.retention import Retention
from monolith.application.retention_schedule import RetentionSchedule
from monolith.application.tracing import Tracing
from monolith.domain.detection import Detection
from monolith.exports.annotated import AnnotatedVideos
from monolith.live.playback.sessions import Viewers
from monolith.live.webrtc.publishers import WebRtcPublishers
from monolith.readmodels.analytics import Analytics
from monolith.readmodels.detections import DetectionReader
from monolith.readmodels.projector import EventDecoder
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rebuilds import Rebuilds
from monolith.webhooks.service import Webhooks

ReadinessCheck: TypeAlias = Callable[[], Awaitable[str | None]]
"""None when ready, else why not, for users."""


class SubmittedVideo(Protocol):
    """The answer to a submission (`monolith.application.handlers.Submitted`)."""

    @property
    def video_id(self) -> str: ...
    @property
    def video_url(self) -> str: ...
    @property
    def video_name(self) -> str: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def frame_step(self) -> int: ...
    @property
    def repeated(self) -> bool: ...


class Handlers(Protocol):
    """The use cases. They check everything, raise DomainErrors, and return when the read models know."""

    async def submit_url(
        self,
        *,
        url: object,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> SubmittedVideo: ...

    async def submit_upload(
        self,
        *,
        path: Path,
        file_name: str,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
        digest: str | None = None,
    ) -> SubmittedVideo:
        """The file at `path` (`digest`: of its bytes) is the handler's, unless it answers `repeated` or raises
        anything but SubmissionUnknownError."""
        ...

    async def knows(self, idempotency_key: str) -> bool:
        """Whether a submission with this key was taken in."""
        ...

    async def cancel(self, video_id: str) -> None: ...

    async def delete(self, video_id: str) -> None: ...


class RtmpEntrance(Protocol):
    """Where RTMP publishers come in. `public_url`: how they reach it, without a slash at its end; None: by the host
    that requests name, and `port`."""

    @property
    def port(self) -> int:
        """0 while there is none."""
        ...

    @property
    def public_url(self) -> str | None: ...

    @property
    def problem(self) -> str:
        """Why there is none now, for users; else empty."""
        ...


class FrameReader(Protocol):
    def __call__(self, video_id: str, pack: str, offset: int, length: int) -> bytes:
        """The stored JPEG. Runs in a thread. Raises FrameGoneError, FrameDamagedError (`monolith.storage`), OSError."""
        ...


class Annotator(Protocol):
    def __call__(self, jpeg: bytes, detections: Sequence[Detection]) -> bytes:
        """A JPEG of the same size with boxes, labels and swatches drawn. Runs in a thread. Raises JpegError."""
        ...


def _no_end() -> int:
    return 1 << 62


async def _room() -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what one request may cost. Sizes in bytes, times in seconds."""

    json_bytes: int = 1 << 20
    upload_bytes: int = 20 << 30
    upload_stall_seconds: float = 60.0
    uploads: int = 8
    send_seconds: float = 60.0
    event_streams: int = 200
    exports: int = 32
    heartbeat_seconds: float = 15.0
    frame_threads: int = 2
    frame_wait_seconds: float = 30.0
    readiness_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """`public_url`: the server's address in answers; None: as the request names it. `loopback_only`: requests must name
    this machine by a name that no other can have. `uploads`: a folder in the data directory; `room_bytes`: how much may
    be written there (blocks; may be below 0). `no_room`: why nothing new can be taken in now, for users. `stopping`:
    set it when the server is about to stop, so that event streams end."""

    handlers: Handlers
    read_models: ReadModels
    store: EventStore
    decoder: EventDecoder
    read_frame: FrameReader
    annotate: Annotator
    uploads: Path
    registry: CollectorRegistry
    public_url: str | None = None
    loopback_only: bool = False
    access: AccessControl = field(default_factory=AccessControl)
    log_requests: bool = False
    room_bytes: Callable[[], int] = _no_end
    no_room: Callable[[], Awaitable[str | None]] = _room
    readiness: Mapping[str, ReadinessCheck] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    retention: Retention | None = None
    retention_schedule: RetentionSchedule | None = None
    rebuilds: Rebuilds = field(default_factory=lambda: Rebuilds(clock=time.time))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    annotated: AnnotatedVideos | None = None
    analytics: Analytics | None = None
    """None: what is counted comes from the read models alone."""
    viewers: Viewers | None = None
    """None: no live video is played."""
    webrtc: WebRtcPublishers | None = None
    """None: nobody can publish by WebRTC."""
    push_sources: PushSources | None = None
    """None: nobody can publish to this program."""
    rtmp: RtmpEntrance | None = None
    webhooks: Webhooks | None = None
    """None: nobody is told of events."""
    tracing: Tracing | None = None
    """None: requests make no spans."""
    refusals: Refusals | None = None
    """Counts also who is not let in elsewhere (RTMP); None: the API counts alone."""

    @property
    def pushed(self) -> PushSources:
        """Videos that publishers push. Raises ApiError where nobody can."""
        if self.push_sources is None:
            raise ApiError(503, "nobody can publish here: ask a server that runs (video-analysis serve)")
        return self.push_sources

    @property
    def detections(self) -> DetectionReader:
        return DetectionReader(self.read_models, self.analytics)
