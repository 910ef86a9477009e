"""What tests of jobs that analyse segments share: one video on a store that may crash, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eventsourcing.codec import EventCodec
from monolith.application.attempt import Resources
from monolith.application.segments import Segments
from monolith.application.video_stream import VideoStreams
from monolith.domain.events import DOMAIN_EVENTS, FramesAnalysed, FramesStored
from monolith.storage import FileStorage
from tests.unit.application.scripted import CountedSlots, CrashingStore, ScriptedDecoders, ScriptedInference

MODELS = ("objects_detection", "color_detection")


class SegmentWorld:
    """The store and the files last; `segments` begins the life of another process."""

    def __init__(self, folder: Path, decoders: ScriptedDecoders, *, frame_step: int, slots: int) -> None:
        self.store = CrashingStore()
        self.codec = EventCodec(DOMAIN_EVENTS)
        self.streams = VideoStreams(self.store, self.codec)
        self.storage = FileStorage(folder)
        self.storage.prepare()
        self.inference = ScriptedInference(MODELS)
        self.slots = CountedSlots(slots)
        self.frame_step = frame_step
        self._decoders = decoders
        self._slot_count = slots

    def segments(self) -> Segments:
        """Of a process that knows nothing of an earlier one."""
        self.streams = VideoStreams(self.store, self.codec)
        self.slots = CountedSlots(self._slot_count)
        return Segments(
            self.streams,
            self.store,
            self.codec,
            self.storage,
            Resources(self._decoders, self.slots, self.inference, self.slots),
            lambda: 5.0,
            owner="test",
            attempts_allowed=3,
        )

    async def events(self) -> list[object]:
        return [self.codec.decode(event) for event in await self.store.read_all(limit=100_000)]

    async def of(self, *kinds: type) -> list[object]:
        return [event for event in await self.events() if isinstance(event, kinds)]


def frames_of(events: Sequence[object]) -> Counter[tuple[str, int]]:
    """How often each frame was stored, and judged by each model."""
    seen: Counter[tuple[str, int]] = Counter()
    for event in events:
        if isinstance(event, FramesStored):
            seen.update(("stored", frame.frame_number) for frame in event.frames)
        if isinstance(event, FramesAnalysed):
            seen.update((event.model.key, frame.frame_number) for frame in event.frames)
    return seen


def once(numbers: range) -> Counter[tuple[str, int]]:
    return Counter((what, number) for what in ("stored", *MODELS) for number in numbers)
