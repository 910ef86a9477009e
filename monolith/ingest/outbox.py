"""Puts out the pictures of a followed source on a thread of its own: into slots, packs and messages, in order.

So the decoding thread may block in a silent source while frames are synced and slots come; and a live source is read on
while there is no slot. At most one sampled picture of a live source waits for a slot: the newest one, the others are
lost and said to be. A source that is not live waits. So does one that is pushed, for a moment, while it gives all at
once what was published before it was followed: nothing is late then that could not be caught up with.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import av.error

from monolith.domain.events import PUSH_KINDS
from monolith.frames.jpeg import JpegError
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.messages import FollowSource, FramesLost, SegmentCut, StartSegment
from monolith.ingest.numbering import NumberedPicture
from monolith.ingest.output import SYNC_FRAMES, FrameOutput
from monolith.ingest.requests import CancelledError, Request

_LIVE_SYNC_SECONDS: Final = 0.05
"""Between two syncs, at least. Results wait for them: it is well below the time from one sampled picture of most
sources to the next, so that each is synced at once, and one that was late holds up none of those after it."""
_SYNC_SECONDS: Final = 0.25
_ROOM_SECONDS: Final = 0.25
_MOST_QUEUED: Final = 2
"""Pictures of a source that waits for us; decoded ones are large."""
_CATCH_UP_SECONDS: Final = 5.0
"""From the first sampled picture of a pushed source. So much may wait for it (`monolith.live.feeds`)."""
_CATCH_UP_PATIENCE: Final = 2.0
"""For so many of these seconds slots are waited for; after that it is too much for the models, and the newest wins."""
_LATE: Final = "analysis was busy with earlier pictures until the next one came"
_STOPPED: Final = "the source was stopped before the picture could be stored"


@dataclass
class _Picture:
    """`slot`: None while it waits for one."""

    numbered: NumberedPicture
    decode_seconds: float
    slot: int | None = None


@dataclass(frozen=True)
class _Lost:
    """Reason → frame numbers."""

    numbers: dict[str, list[int]]


@dataclass(frozen=True)
class _Cut:
    last_frame: int
    frames_seen: int


_Item: TypeAlias = _Picture | _Lost | _Cut


class _Sync:
    """Frames are to be brought to the disk."""


class Outbox:
    """Give it the sampled pictures and the cuts, then `finish`. Failures of its thread are raised by every method."""

    def __init__(self, request: Request, work: FollowSource, slots: FrameSlots) -> None:
        self._request = request
        self._work = work
        self._slots = slots
        self._changed = request.changed
        self._items: deque[_Item] = deque()
        self._finished = False
        self._failure: BaseException | None = None
        self._output: FrameOutput | None = None
        self._skip: frozenset[int] = frozenset()
        self._patience = _CATCH_UP_PATIENCE if work.access.transport in PUSH_KINDS else 0.0
        self._catch_up_until: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self.unsaid_seen = 0
        """Pictures of segments that were never said to be cut, since the request was cancelled before."""

    @property
    def between_segments(self) -> bool:
        """Whether it ended after a cut, before the next segment was said."""
        return self._output is None

    def start(self) -> None:
        self._thread.start()

    def put(self, numbered: NumberedPicture, decode_seconds: float, alive: Callable[[], None]) -> None:
        """Take a sampled picture. `alive`: called while this waits for room."""
        if not self._work.live:
            self._wait_for_room(_Picture, _MOST_QUEUED, alive)
        elif self._patience > 0:
            self._wait_a_moment(alive)
        with self._changed:
            self._check()
            for index, item in enumerate(self._items):
                if isinstance(item, _Picture) and not self._has_slot_held(item) and self._work.live:
                    self._items[index] = _Lost({_LATE: [item.numbered.number]})
            self._merge_lost()
            picture = _Picture(numbered, decode_seconds)
            self._has_slot_held(picture)
            self._items.append(picture)
            self._changed.notify_all()

    def lose(self, numbers: Iterable[int], reason: str) -> None:
        """Sampled pictures of a live source that will not come, behind those that were put."""
        with self._changed:
            self._items.append(_Lost({reason: list(numbers)}))
            self._merge_lost()
            self._changed.notify_all()

    def _has_slot_held(self, picture: _Picture) -> bool:
        """Whether it has one, after it was given a free one."""
        if picture.slot is None and not self._is_behind_another_held(picture):
            picture.slot = self._request.slot_held()
        return picture.slot is not None

    def _is_behind_another_held(self, picture: _Picture) -> bool:
        """Slots go to pictures in their order."""
        for item in self._items:
            if item is picture:
                return False
            if isinstance(item, _Picture) and item.slot is None:
                return True
        return False

    def cut(self, last_frame: int, frames_seen: int, alive: Callable[[], None]) -> None:
        """The segment ends with `last_frame`. Waits while the segment before it is not done with."""
        self._wait_for_room(_Cut, 1, alive)
        with self._changed:
            self._check()
            self._items.append(_Cut(last_frame, frames_seen))
            self._changed.notify_all()

    def finish(self, alive: Callable[[], None]) -> None:
        """Wait until all is out, or as much as a cancelled request lets out. `alive` must not raise."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()
        while self._thread.is_alive():
            alive()
            self._thread.join(_ROOM_SECONDS)
        self._check()

    def _wait_for_room(self, kind: type[_Picture | _Cut], most: int, alive: Callable[[], None]) -> None:
        """Until less than `most` items of that kind wait."""
        while True:
            alive()
            with self._changed:
                self._check()
                if sum(isinstance(item, kind) for item in self._items) < most:
                    return
                self._changed.wait(_ROOM_SECONDS)

    def _wait_a_moment(self, alive: Callable[[], None]) -> None:
        """Until the picture before has a slot, or there is no more time for that."""
        started = time.monotonic()
        if self._catch_up_until is None:
            self._catch_up_until = started + _CATCH_UP_SECONDS
        until = min(self._catch_up_until, started + self._patience)
        while (left := until - time.monotonic()) > 0:
            alive()
            with self._changed:
                self._check()
                if all(self._has_slot_held(item) for item in self._items if isinstance(item, _Picture)):
                    break
                self._changed.wait(min(left, _ROOM_SECONDS))
        self._patience -= time.monotonic() - started

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _merge_lost(self) -> None:
        """Neighbours become one: the row of items stays short however long there is no slot."""
        merged: deque[_Item] = deque()
        for item in self._items:
            if isinstance(item, _Lost) and merged and isinstance(merged[-1], _Lost):
                for reason, numbers in item.numbers.items():
                    merged[-1].numbers.setdefault(reason, []).extend(numbers)
            else:
                merged.append(item)
        self._items = merged

    def _run(self) -> None:
        try:
            try:
                self._begin(self._work.start)
                self._deliver()
            except CancelledError:
                self._abandon()
            finally:
                if self._output is not None:
                    self._output.close()
        except BaseException as error:  # raised by whoever waits
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _begin(self, segment: StartSegment) -> None:
        self._skip = frozenset(segment.skip)
        self._output = FrameOutput(self._request, self._work, segment.pack_path, self._slots)

    def _deliver(self) -> None:
        """Raises CancelledError."""
        while (item := self._next()) is not None:
            assert self._output is not None
            match item:
                case _Picture():
                    self._put(self._output, item)
                case _Lost(lost):
                    for reason, numbers in lost.items():
                        self._say_lost(numbers, reason)
                case _Cut():
                    self._cut(self._output, item)
                case _Sync():
                    self._output.sync()

    def _next(self) -> _Picture | _Lost | _Cut | _Sync | None:
        """What is to be done next; None when all is done. Raises CancelledError."""
        with self._changed:
            while True:
                if self._request.cancelled:
                    raise CancelledError
                self._drop_skipped_held()
                if (item := self._ready_held()) is not None:
                    self._changed.notify_all()
                    return item
                if self._finished and not self._items:
                    return None
                delay = self._sync_delay()
                if delay is not None and (delay <= 0 or self._items):  # nothing better to do without a slot
                    return _Sync()
                self._changed.wait(delay)

    def _drop_skipped_held(self) -> None:
        while self._items and isinstance(head := self._items[0], _Picture):
            if head.numbered.number not in self._skip:
                return
            self._items.popleft()
            self._put_back_held(head)

    def _put_back_held(self, picture: _Picture) -> None:
        if picture.slot is not None:
            self._request.put_back(picture.slot)

    def _ready_held(self) -> _Picture | _Lost | _Cut | None:
        """The first item, a picture only with a slot."""
        if not self._items:
            return None
        head = self._items[0]
        if isinstance(head, _Picture) and not self._has_slot_held(head):
            return None
        return self._items.popleft()

    def _sync_delay(self) -> float | None:
        """Seconds until the frames that are out are to be synced; None where all are."""
        assert self._output is not None
        waited = self._output.unsynced_seconds
        if waited is None:
            return None
        return (_LIVE_SYNC_SECONDS if self._work.live else _SYNC_SECONDS) - waited

    def _put(self, output: FrameOutput, picture: _Picture) -> None:
        assert picture.slot is not None
        try:
            output.put_into(picture.slot, picture.numbered, picture.decode_seconds)
        except (av.error.FFmpegError, JpegError) as error:
            self._say_lost([picture.numbered.number], f"the picture could not be converted: {error}")
        if output.unsynced >= SYNC_FRAMES:
            output.sync()

    def _cut(self, output: FrameOutput, cut: _Cut) -> None:
        """Say that the segment is done, and wait for the next one. Raises CancelledError."""
        self._output = None
        output.close()
        self._request.say(SegmentCut(last_frame=cut.last_frame, frames_seen=cut.frames_seen))
        with self._changed:
            while (segment := self._request.segment_held()) is None:
                if self._request.cancelled:
                    raise CancelledError
                self._changed.wait()
        self._begin(segment)

    def _abandon(self) -> None:
        """After a cancellation: what waits belongs to the segment that is open, and will not be stored."""
        with self._changed:
            items, self._items = self._items, deque()
            for item in items:
                if isinstance(item, _Picture):
                    self._put_back_held(item)
        numbers: list[int] = []
        for item in items:
            match item:
                case _Picture(numbered):
                    numbers.append(numbered.number)
                case _Lost(lost):
                    numbers += itertools.chain.from_iterable(lost.values())
                case _Cut(_, frames_seen):
                    self.unsaid_seen += frames_seen
        if self._work.live and self._output is not None:
            self._say_lost(numbers, _STOPPED)

    def _say_lost(self, numbers: list[int], reason: str) -> None:
        lost = tuple(number for number in numbers if number not in self._skip)
        if lost:
            self._request.say(FramesLost(lost, reason))
