"""The decoder's side of a request: the slots lent to it, whether it is cancelled, and what it answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final, TypeAlias

import msgspec

from monolith.child import ParentGoneError, ParentLink
from monolith.ingest.messages import (
    Cancel,
    DecodeSegment,
    FollowSource,
    FromDecoder,
    Probe,
    ProbeSource,
    Progress,
    ReadStored,
    Slots,
    StartSegment,
    ToDecoder,
)

Work: TypeAlias = Probe | ProbeSource | DecodeSegment | ReadStored | FollowSource

PROGRESS_SECONDS: Final = 1.0
_DECODER: Final = msgspec.msgpack.Decoder(ToDecoder)
_ENCODER: Final = msgspec.msgpack.Encoder()


class CancelledError(Exception):
    """The parent wants the running request to end."""


class Request:
    """A request at work. The receiving thread adds to it, the working threads take from it.

    `changed`: notified of slots, of the next segment and of the cancellation; whoever waits for more than one of them
    holds it, and uses what is named `…_held`.
    """

    def __init__(self, work: Work, link: ParentLink) -> None:
        self.work = work
        self.changed = threading.Condition()
        self._link = link
        self._slots: deque[int] = deque()
        self._segment: StartSegment | None = None
        self._cancelled = False
        self._on_cancel: Callable[[], None] | None = None
        self._sending = threading.Lock()
        self._said = time.monotonic()
        self._steps = 0

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def lend(self, slots: Iterable[int]) -> None:
        with self.changed:
            self._slots.extend(slots)
            self.changed.notify_all()

    def start_segment(self, segment: StartSegment) -> None:
        with self.changed:
            self._segment = segment
            self.changed.notify_all()

    def cancel(self) -> None:
        with self.changed:
            self._cancelled = True
            on_cancel = self._on_cancel
            self.changed.notify_all()
        if on_cancel is not None:
            on_cancel()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """`callback` ends a wait that nothing else ends. Called by another thread, at once where it is late."""
        with self.changed:
            self._on_cancel = callback
            late = self._cancelled
        if late:
            callback()

    def slot_held(self) -> int | None:
        """A slot if there is one."""
        return self._slots.popleft() if self._slots else None

    def segment_held(self) -> StartSegment | None:
        """The next segment if the parent has said it."""
        segment, self._segment = self._segment, None
        return segment

    def take_slot(self, *, wait: bool) -> int | None:
        """A slot, None when there is none and `wait` is false. Raises CancelledError."""
        with self.changed:
            while True:
                if self._cancelled:
                    raise CancelledError
                if self._slots:
                    return self._slots.popleft()
                if not wait:
                    return None
                self.changed.wait()

    def put_back(self, slot: int) -> None:
        """A slot that was taken in vain."""
        with self.changed:
            self._slots.appendleft(slot)

    def unused_slots(self) -> tuple[int, ...]:
        with self.changed:
            return tuple(self._slots)

    def step(self) -> None:
        """To be called for each packet or picture on the way: tells the parent now and then. Raises CancelledError."""
        if self._cancelled:
            raise CancelledError
        self._steps += 1
        if self.silent_seconds >= PROGRESS_SECONDS:
            self.say_progress()

    def say(self, message: FromDecoder) -> None:
        """From any thread. Raises ParentGoneError."""
        self._said = time.monotonic()
        with self._sending:
            self._link.send(_ENCODER.encode(message))

    @property
    def silent_seconds(self) -> float:
        """Since the parent heard of this request."""
        return time.monotonic() - self._said

    def say_progress(self) -> None:
        """Raises ParentGoneError."""
        self.say(Progress(self._steps))


class Inbox:
    """Receives from the parent on a thread of its own, so that slots and cancellation arrive while decoding."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._current: Request | None = None
        self._thread = threading.Thread(target=self._receive, name="inbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self) -> Request | None:
        """The next request (waits); None when the parent has closed the link."""
        return self._requests.get()

    def _receive(self) -> None:
        """The queue holds one request at most: the parent sends the next when the last has ended."""
        try:
            while True:
                self._handle(_DECODER.decode(self._link.receive()))
        except ParentGoneError:
            if self._current is not None:
                self._current.cancel()
            self._requests.put(None)

    def _handle(self, message: ToDecoder) -> None:
        match message:
            case Slots(slots):
                if self._current is not None:
                    self._current.lend(slots)
            case StartSegment():
                if self._current is not None:
                    self._current.start_segment(message)
            case Cancel():
                if self._current is not None:
                    self._current.cancel()
            case _:
                self._current = Request(message, self._link)
                self._requests.put(self._current)
