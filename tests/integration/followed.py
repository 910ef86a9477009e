"""What the tests of followed sources share: requests, and a consumer that behaves as the application does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from monolith.domain.events import Transport
from monolith.domain.segment import SourcePosition, StoredFrame
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.checked_network import Resolver, system_resolver
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from monolith.ingest.messages import (
    Connected,
    FollowSource,
    FrameReady,
    FramesLost,
    PackSynced,
    Progress,
    SegmentCut,
    SegmentDone,
    SourceAccess,
    StartSegment,
)
from monolith.ingest.sessions import FollowSession
from monolith.ingest.sources import open_source
from tests.videos import Picture, read_barcode

READ_TIMEOUT = 5.0


def access_to(url: str, transport: Transport, **more: object) -> SourceAccess:
    """Everything on loopback is allowed."""
    options: dict[str, object] = {"loopback_only": True, "networks": (), "connect_timeout": 5.0,
                                  "read_timeout": READ_TIMEOUT, **more}  # fmt: skip
    return SourceAccess(url, transport, **options)  # type: ignore[arg-type]


def follow_request(
    access: SourceAccess,
    folder: Path,
    *,
    live: bool = False,
    first_frame: int = 1,
    frame_step: int = 1,
    segment_seconds: float = 60.0,
    timeline_start: float | None = None,
    timeline_least: float = 0.0,
    skip: tuple[int, ...] = (),
    behind: SourcePosition | None = None,
) -> FollowSource:
    """Packs are `folder`/SEGMENT.mjpeg."""
    return FollowSource(
        access=access,
        live=live,
        first_frame=first_frame,
        timeline_start=timeline_start,
        frame_step=frame_step,
        max_height=720,
        jpeg_quality=95,
        infer_from="stored",
        segment_seconds=segment_seconds,
        start=start_of(0, folder, skip),
        timeline_least=timeline_least,
        behind=behind,
    )


def start_of(segment: int, folder: Path, skip: tuple[int, ...] = ()) -> StartSegment:
    return StartSegment(segment, str(folder / f"{segment}.mjpeg"), skip)


@dataclass
class Segment:
    """What one segment came to. `shown`: the barcodes that the slots really held, by frame number."""

    frames: list[StoredFrame] = field(default_factory=list)
    shown: dict[int, int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    synced: int = 0
    last_frame: int | None = None
    frames_seen: int = 0

    @property
    def numbers(self) -> list[int]:
        return [frame.frame_number for frame in self.frames]


@dataclass
class Story:
    """All that a session said."""

    segments: list[Segment] = field(default_factory=lambda: [Segment()])
    connected: Connected | None = None
    done: SegmentDone | None = None
    position: SourcePosition | None = None
    """Of the newest frame."""
    progress: list[int] = field(default_factory=list)
    """Pictures by then, as signs of life told."""

    @property
    def frames(self) -> list[StoredFrame]:
        return [frame for segment in self.segments for frame in segment.frames]

    @property
    def numbers(self) -> list[int]:
        return [frame.frame_number for frame in self.frames]

    @property
    def shown(self) -> dict[int, int]:
        return {number: shown for segment in self.segments for number, shown in segment.shown.items()}

    @property
    def lost(self) -> list[int]:
        return [number for segment in self.segments for number in segment.lost]


def barcode_or_nothing(picture: Picture) -> int | None:
    try:
        return read_barcode(np.asarray(picture))
    except AssertionError:
        return None


async def follow(
    pool: DecoderPool,
    slots: FrameSlots,
    request: FollowSource,
    folder: Path,
    *,
    until: Callable[[Story], bool] = lambda story: False,
) -> Story:
    """Follow to the end of the source, or until `until` holds, then cancel and take what comes."""
    story = Story()
    async with pool.follow(request) as session:
        await session.lend(range(slots.count))
        async for message in session:
            await _take(message, story, session, slots, folder)
            if until(story):
                await session.cancel()
        assert session.outstanding_slots == frozenset()
    return story


async def _take(
    message: object, story: Story, session: FollowSession, slots: FrameSlots, folder: Path
) -> None:
    segment = story.segments[-1]
    match message:
        case Connected():
            assert story.connected is None
            story.connected = message
        case FrameReady(slot=slot, frame=frame):
            assert story.connected is not None
            story.position = message.position
            segment.frames.append(frame)
            shown = barcode_or_nothing(slots.view(slot, frame.height, frame.width))
            if shown is not None:
                segment.shown[frame.frame_number] = shown
            await session.lend([slot])
        case PackSynced(number):
            segment.synced = number
        case FramesLost(numbers, reason):
            segment.lost += numbers
            segment.reasons.append(reason)
        case SegmentCut(last_frame, seen):
            segment.last_frame, segment.frames_seen = last_frame, seen
            assert segment.synced == (segment.frames[-1].frame_number if segment.frames else 0)
            story.segments.append(Segment())
            await session.start_segment(start_of(len(story.segments) - 1, folder))
        case Progress(steps):
            story.progress.append(steps)
        case SegmentDone():
            segment.last_frame, segment.frames_seen = message.last_frame, message.frames_seen
            story.done = message


def count_pictures(
    access: SourceAccess, resolver: Resolver = system_resolver, *, most: int | None = None
) -> int:
    """Connect and decode in this process, `most` pictures (None: all). Blocks. Raises SourceError."""
    with (
        open_source(
            access, live=None, watch=lambda: None, on_cancel=lambda end: None, resolver=resolver
        ) as source,
        contextlib.closing(source.inputs()) as inputs,
    ):
        pictures = (picture for video in inputs for picture in video.pictures())
        return sum(1 for _ in itertools.islice(pictures, most))


async def refusal(access: SourceAccess, resolver: Resolver = system_resolver) -> SourceError:
    """The error of a source that must be refused."""
    with pytest.raises(SourceError) as caught:
        await asyncio.to_thread(count_pictures, access, resolver, most=1)
    return caught.value
