"""The application's ports in memory: decoders and models that do what a test says, and a store that crashes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.events import AppendResult, NewEvent
from eventsourcing.versions import ExpectedVersion
from monolith.application.errors import FrameRefusedError, RetryableFailure, SourceFailure
from monolith.application.ports import DecodeRequest, DecoderMessage, FollowSession
from monolith.domain.detection import ColorShare
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SourceInfo, StoredFrame
from monolith.inference.messages import FrameRef, FrameResult
from monolith.inference.shared_memory import SlotPool
from monolith.ingest.messages import (
    DecodeSegment,
    FollowSource,
    FrameReady,
    PackSynced,
    SegmentDone,
    SourceAccess,
)
from tests.builders import identity

SYNC_EVERY = 5
ANYWHERE = SourceAccess(url="", transport="rtsp", loopback_only=True, networks=())


class Crash(BaseException):
    """The process ends here."""


class CrashingStore(MemoryEventStore):
    """Crashes at the append after `appends_left` more: before it is stored, or after, when `after` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.appends_left = 10**9
        self.after = False

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        self.appends_left -= 1
        if self.appends_left < 0 and not self.after:
            raise Crash
        result = await super().append(stream_name, events, expected_version=expected_version)
        if self.appends_left < 0:
            raise Crash
        return result


class ScriptedSession:
    """Sends one frame for each slot it is lent, then SegmentDone."""

    def __init__(
        self, decoders: ScriptedDecoders, numbers: list[int], missing: list[int], last: int | None
    ) -> None:
        self._decoders = decoders
        self._numbers = numbers
        self._missing = missing
        self._last = last
        self._slots: asyncio.Queue[int] = asyncio.Queue()
        self._lent: set[int] = set()

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return frozenset(self._lent)

    async def lend(self, slots: Sequence[int]) -> None:
        self._lent.update(slots)
        self._decoders.most_lent = max(self._decoders.most_lent, len(self._lent))
        for slot in slots:
            self._slots.put_nowait(slot)

    async def __aiter__(self) -> AsyncIterator[DecoderMessage]:
        for count, number in enumerate(self._numbers, start=1):
            slot = await self._slots.get()
            if number == self._decoders.dies_at:
                self._decoders.dies_at = None
                raise self._decoders.error
            self._lent.discard(slot)
            frame = StoredFrame(
                frame_number=number,
                timestamp=number / 25,
                offset=number * 100,
                length=100,
                width=64,
                height=48,
            )
            yield FrameReady(slot, frame, 0.1, 0.01, 0.02)
            if count % SYNC_EVERY == 0:
                yield PackSynced(number)
        if self._numbers:
            yield PackSynced(self._numbers[-1])
        unused = tuple(self._lent)
        self._lent.clear()
        yield SegmentDone(unused, tuple(self._missing), len(self._numbers), self._last, end_of_source=True)


class ScriptedDecoders:
    """A source of `frames` pictures, of which `damaged` cannot be decoded."""

    def __init__(self, frames: int, damaged: Sequence[int] = ()) -> None:
        self.frames = frames
        self.damaged = set(damaged)
        self.most_lent = 0
        self.dies_at: int | None = None
        self.error: RetryableFailure | SourceFailure = RetryableFailure("the decoder died")
        self.decoded: list[int] = []

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo:
        raise NotImplementedError

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        raise NotImplementedError

    def follow(self, request: FollowSource) -> AbstractAsyncContextManager[FollowSession]:
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, request: DecodeRequest) -> AsyncIterator[ScriptedSession]:
        if isinstance(request, DecodeSegment):
            end = self.frames if request.last_frame is None else min(request.last_frame, self.frames)
            asked = [
                n
                for n in range(request.first_frame, end + 1)
                if n % request.frame_step == 0 and n not in request.skip
            ]
            missing = [n for n in asked if n in self.damaged]
            numbers = [n for n in asked if n not in self.damaged]
            self.decoded += numbers
            yield ScriptedSession(self, numbers, missing, end if end >= request.first_frame else None)
        else:
            numbers = [source.frame.frame_number for source in request.frames]
            yield ScriptedSession(self, numbers, [], None)


class ScriptedInference:
    """Every model finds one colour that names model and slot; frames in `refuses` end their worker. The first calls
    raise what is in `unavailable`."""

    def __init__(self, models: Sequence[str]) -> None:
        self._identities = {model: identity(model) for model in models}
        self.refuses: set[str] = set()
        self.unavailable: deque[Exception] = deque()
        self.judged = 0

    @property
    def identities(self) -> dict[str, ModelIdentity]:
        return self._identities

    async def infer(self, model_key: str, frame: FrameRef, *, key: str) -> FrameResult:
        await asyncio.sleep(0)
        if self.unavailable:
            raise self.unavailable.popleft()
        self.judged += 1
        if model_key in self.refuses:
            raise FrameRefusedError("the frame ended its worker twice")
        return FrameResult((ColorShare(color="#010203", share=1.0),), 1.0, 0.01)


class CountedSlots(SlotPool):
    """A slot pool that can tell whether all slots came back."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count

    @property
    def all_back(self) -> bool:
        return self.free == self.count


class OpenGate:
    """There is no read model to wait for."""

    async def wait_for(self, commit_position: int, timeout: float) -> None:
        return
