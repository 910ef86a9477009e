"""Videos that are pushed, over an event store in memory: the real sources, with nobody to analyse them."""

from __future__ import annotations

import time
from pathlib import Path

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.push_sources import PushEndpoint, PushSources
from monolith.application.video_stream import VideoStreams
from monolith.domain.events import DOMAIN_EVENTS, PushKind
from monolith.domain.video import Video
from monolith.live.feeds import LiveFeeds
from monolith.live.packets import CLOCK_RATE, LivePacket, VideoFormat
from monolith.secret_urls import SecretUrls
from tests.unit.application.scripted import OpenGate

MODELS = ["objects_detection"]
H264 = VideoFormat("h264", b"avcC")
FRAME = CLOCK_RATE // 25


class Pushed:
    """`sources`, and what they stand on."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryEventStore()
        self.streams = VideoStreams(self.store, EventCodec(DOMAIN_EVENTS))
        self.secrets = SecretUrls(folder)
        options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
        self.handlers = VideoHandlers(self.streams, self.store, OpenGate(), self.secrets, options, time.time)
        self.sources = PushSources(self.handlers, self.streams, self.secrets, LiveFeeds())

    async def endpoint(self, kind: PushKind = "rtmp", key: str | None = None) -> PushEndpoint:
        return await self.sources.create(kind, models=MODELS, idempotency_key=key)

    async def load(self, video_id: str) -> Video:
        return await self.streams.load(video_id)


def packet(number: int, *, keyframe: bool = False, of: VideoFormat = H264, size: int = 10) -> LivePacket:
    return LivePacket(of, bytes(size), number * FRAME, number * FRAME, keyframe, 1_000.0 + number)
