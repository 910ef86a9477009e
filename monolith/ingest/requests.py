"""The decoder's side of a request: the slots lent to it, whether it is cancelled, and what it answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Final, TypeAlias

import msgspec

from monolith.child import ParentGoneError, ParentLink
from monolith.ingest.messages import (
    Cancel,
    DecodeSegment,
    FromDecoder,
    Probe,
    Progress,
    ReadStored,
    Slots,
    ToDecoder,
)

Work: TypeAlias = Probe | DecodeSegment | ReadStored

_PROGRESS_SECONDS: Final = 1.0
_DECODER: Final = msgspec.msgpack.Decoder(ToDecoder)
_ENCODER: Final = msgspec.msgpack.Encoder()


class CancelledError(Exception):
    """The parent wants the running request to end."""


class Request:
    """A request at work. The receiving thread adds to it, the working thread takes from it."""

    def __init__(self, work: Work, link: ParentLink) -> None:
        self.work = work
        self._link = link
        self._slots: deque[int] = deque()
        self._cancelled = False
        self._changed = threading.Condition()
        self._said = time.monotonic()
        self._steps = 0

    def lend(self, slots: Iterable[int]) -> None:
        with self._changed:
            self._slots.extend(slots)
            self._changed.notify()

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            self._changed.notify()

    def take_slot(self, *, wait: bool) -> int | None:
        """A slot, None when there is none and `wait` is false. Raises CancelledError."""
        with self._changed:
            while True:
                if self._cancelled:
                    raise CancelledError
                if self._slots:
                    return self._slots.popleft()
                if not wait:
                    return None
                self._changed.wait()

    def put_back(self, slot: int) -> None:
        """A slot that was taken in vain."""
        with self._changed:
            self._slots.appendleft(slot)

    def unused_slots(self) -> tuple[int, ...]:
        with self._changed:
            return tuple(self._slots)

    def step(self) -> None:
        """To be called for each packet or picture on the way: tells the parent now and then. Raises CancelledError."""
        if self._cancelled:
            raise CancelledError
        self._steps += 1
        if time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self.say(Progress(self._steps))

    def say(self, message: FromDecoder) -> None:
        """Raises ParentGoneError."""
        self._said = time.monotonic()
        self._link.send(_ENCODER.encode(message))


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
            case Cancel():
                if self._current is not None:
                    self._current.cancel()
            case _:
                self._current = Request(message, self._link)
                self._requests.put(self._current)
