"""A followed source in memory: connections that give as many pictures as a test says, and break as it says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.ports import FollowMessage
from monolith.domain.segment import SourceInfo, SourcePosition, StoredFrame
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
from tests.unit.application.scripted import SYNC_EVERY, ScriptedDecoders

WALL = 1_700_000_000.0
RATE = 25.0


class Connection(msgspec.Struct, kw_only=True):
    """What one connection does: it gives `pictures`, loses `late` of them, and ends.

    `error`: raised at the end, or (no pictures) instead of coming up; `broken`: said at the end; neither: the source
    has ended. `hangs`: it says nothing more. `pause`: seconds before each picture that is not sampled.
    """

    pictures: int = 0
    late: frozenset[int] = frozenset()
    error: RetryableFailure | SourceFailure | None = None
    broken: str | None = None
    hangs: bool = False
    pause: float = 0.0
    synced_to_the_end: bool = True


class ScriptedSources(ScriptedDecoders):
    """Segments of `per_segment` pictures. A live source goes through `connections`, then does as `last`; one that
    is not live has `frames` pictures, and its connections say how far a session gets."""

    def __init__(self, frames: int = 0, *, per_segment: int = 10) -> None:
        super().__init__(frames)
        self.per_segment = per_segment
        self.connections: deque[Connection] = deque()
        self.last = Connection(error=RetryableFailure("connection refused"))
        """What every further connection to a live source does."""
        self.requests: list[FollowSource] = []
        self.probe_failures: list[Exception] = []
        self.info: SourceInfo | None = None
        self.silent: set[str] = set()
        """URLs that refuse the first try, and then say nothing."""
        self.probed: list[SourceAccess] = []
        self.probing: asyncio.Event | None = None
        """What every probe waits for."""
        self.following = 0
        """Sessions that are open."""

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        again = access.url in {one.url for one in self.probed}
        self.probed.append(access)
        if self.probing is not None:
            await self.probing.wait()
        if access.url in self.silent:
            if again:
                await asyncio.Event().wait()
            raise RetryableFailure("no picture came for 25 s")
        if self.probe_failures:
            raise self.probe_failures.pop(0)
        assert self.info is not None
        return self.info

    @asynccontextmanager
    async def follow(self, request: FollowSource) -> AsyncIterator[ScriptedFollowSession]:
        self.requests.append(request)
        self.following += 1
        try:
            yield ScriptedFollowSession(self, request, self._next(request))
        finally:
            self.following -= 1

    def _next(self, request: FollowSource) -> Connection:
        if self.connections:
            return self.connections.popleft()
        if request.live:
            return self.last
        return Connection(pictures=self.frames - request.first_frame + 1)


class ScriptedFollowSession:
    """One connection."""

    def __init__(self, decoders: ScriptedSources, request: FollowSource, connection: Connection) -> None:
        self._decoders = decoders
        self._request = request
        self._connection = connection
        self._slots: asyncio.Queue[int] = asyncio.Queue()
        self._starts: asyncio.Queue[StartSegment] = asyncio.Queue()
        self._lent: set[int] = set()
        self._in_segment = 0

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return frozenset(self._lent)

    async def lend(self, slots: Sequence[int]) -> None:
        self._lent.update(slots)
        self._decoders.most_lent = max(self._decoders.most_lent, len(self._lent))
        for slot in slots:
            self._slots.put_nowait(slot)

    async def start_segment(self, start: StartSegment) -> None:
        self._starts.put_nowait(start)

    async def cancel(self) -> None:
        raise NotImplementedError

    async def __aiter__(self) -> AsyncIterator[FollowMessage]:
        first, count = self._request.first_frame, self._connection.pictures
        if not count:
            await self._fail_if_told()
        if count:
            yield Connected(first, self._time(first), WALL + first)
        start, last = self._request.start, first - 1
        for number in range(first, first + count):
            async for message in self._picture(number, start):
                yield message
            last = number
            if self._is_full(number) and (number < first + count - 1 or self._connection.broken):
                yield PackSynced(number)
                yield SegmentCut(number, self._in_segment)
                start, self._in_segment = await self._starts.get(), 0
        if self._connection.synced_to_the_end:
            yield PackSynced(last)
        if count:
            await self._fail_if_told()
        unused = tuple(self._lent)
        self._lent.clear()
        ended = self._connection.broken is None
        yield SegmentDone(unused, (), count, last or None, ended, broken=self._connection.broken)

    async def _fail_if_told(self) -> None:
        if self._connection.error is not None:
            raise self._connection.error
        if self._connection.hangs:
            await asyncio.Event().wait()

    async def _picture(self, number: int, start: StartSegment) -> AsyncIterator[FollowMessage]:
        self._in_segment += 1
        if number % self._request.frame_step or number in start.skip:
            await asyncio.sleep(self._connection.pause)
            if self._connection.pause:
                yield Progress(self._in_segment)
            return
        if number in self._connection.late:
            yield FramesLost((number,), "too late for a slot")
            return
        slot = await self._slots.get()
        self._lent.discard(slot)
        self._decoders.decoded.append(number)
        frame = StoredFrame(
            frame_number=number, timestamp=self._time(number), offset=number * 100, length=100, width=64, height=48
        )  # fmt: skip
        yield FrameReady(slot, frame, 0.1, 0.01, 0.02, self._position(number))
        synced = self._connection.synced_to_the_end or number < self._request.first_frame + 2
        if synced and (self._request.live or number % SYNC_EVERY == 0):
            yield PackSynced(number)

    def _position(self, number: int) -> SourcePosition | None:
        """As if the source had all its pictures for ever, and numbered them itself from 1."""
        if not self._request.live:
            return None
        behind = self._request.behind
        before = 0.0 if behind is None or behind.timestamp is None else behind.timestamp
        own = before + 1 + number - self._request.first_frame
        return SourcePosition(sequence=int(own) // 5, name="a", timestamp=own)

    def _time(self, number: int) -> float:
        return (number - 1) / RATE

    def _is_full(self, number: int) -> bool:
        """Segments of a source that is not live are cut at the same frames whenever it is read again."""
        if self._request.live:
            return self._in_segment >= self._decoders.per_segment
        return number % self._decoders.per_segment == 0
