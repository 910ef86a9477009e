"""Requests at work in decoder processes, as their parent sees them."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import msgspec

from monolith.application.ports import DecoderMessage, FollowMessage
from monolith.ingest.decoder_process import DecoderProcess
from monolith.ingest.errors import DecoderDiedError, SourceError
from monolith.ingest.messages import (
    Cancel,
    Connected,
    Failed,
    FrameReady,
    FramesLost,
    FromDecoder,
    PackSynced,
    Progress,
    SegmentCut,
    SegmentDone,
    Slots,
    StartSegment,
)

_CANCEL_SECONDS: Final = 5.0
_Message = TypeVar("_Message")

logger = logging.getLogger(__name__)


class Session(ABC, Generic[_Message]):
    """One request at work in a decoder process. Iterate until it ends; lend slots meanwhile.

    Iterating raises SourceError, DecoderDiedError.
    """

    def __init__(self, process: DecoderProcess, subject: str) -> None:
        """`subject`: what is being done, for the log."""
        self._process = process
        self._subject = subject
        self._lent: set[int] = set()
        self._ended = False
        self._cancelled = False
        self.done: SegmentDone | None = None
        """What the request came to, once it has."""

    @property
    def outstanding_slots(self) -> frozenset[int]:
        """Slots lent that have come back neither in a FrameReady nor in SegmentDone.

        When the session is over (its context left) they are the caller's to release: nobody writes to them any more.
        """
        return frozenset(self._lent)

    async def lend(self, slots: Sequence[int]) -> None:
        """Give the decoder slots to write to. From now on they are outstanding, even if this raises.

        Raises DecoderDiedError. After the end they only become outstanding.
        """
        self._lent.update(slots)
        if not self._ended:
            self._process.waits_for_us = False
            await self._process.send(Slots(tuple(slots)))

    async def cancel(self) -> None:
        """Ask for an early end; go on iterating until then. Raises DecoderDiedError."""
        if not self._ended and not self._cancelled:
            self._cancelled = True
            self._process.waits_for_us = False
            await self._process.send(Cancel())

    def __aiter__(self) -> Session[_Message]:
        return self

    async def __anext__(self) -> _Message:
        while not self._ended:
            message = await self._next()
            if message is not None:
                return message
        raise StopAsyncIteration

    async def _next(self) -> _Message | None:
        """The next message for the caller, None for one that is not. Raises what iterating raises."""
        match await self._process.receive():
            case Failed() as failed:
                self._ended = True
                if self._cancelled:
                    return None
                raise SourceError(failed.reason, permanent=failed.permanent)
            case Progress() as progress:
                return self._progressed(progress)
            case message:
                return self._accept(message)

    def _progressed(self, progress: Progress) -> _Message | None:
        """What the caller is to know of a sign of life."""
        return None

    @abstractmethod
    def _accept(self, message: FromDecoder) -> _Message:
        """Take note of `message`. Raises DecoderDiedError for one that has no place in this request."""

    def _end(self, done: SegmentDone) -> SegmentDone:
        self._ended = True
        self._log_warnings(done)
        self.done = msgspec.structs.replace(done, unused_slots=tuple(sorted(self._lent)))
        self._lent.clear()
        return self.done

    def _log_warnings(self, done: SegmentDone) -> None:
        for warning in done.warnings:
            logger.warning("%s: %s", self._subject, warning)

    def _take_back(self, slot: int) -> None:
        if slot not in self._lent:
            self._process.kill()
            raise DecoderDiedError(f"{self._process.name} filled slot {slot}, which it was not lent")
        self._lent.discard(slot)

    async def finish(self) -> None:
        """Bring the request to its end: cancel it, wait a little, else kill the process. Slots stay outstanding."""
        if self._ended or self._process.dead:
            return
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._drain()
        except (TimeoutError, DecoderDiedError) as error:
            logger.warning("%s did not end its request: killed (%s)", self._process.name, error)
            self._process.kill()
        except BaseException:
            self._process.kill()
            raise

    async def _drain(self) -> None:
        await self.cancel()
        while not self._ended:
            match await self._process.receive():
                case SegmentDone() as done:
                    self._ended = True
                    self._log_warnings(done)
                case Failed():
                    self._ended = True


class DecodeSession(Session[DecoderMessage]):
    """A segment, or stored frames."""

    def _accept(self, message: FromDecoder) -> DecoderMessage:
        match message:
            case FrameReady():
                self._take_back(message.slot)
                self._process.waits_for_us = not self._lent
                return message
            case PackSynced():
                return message
            case SegmentDone():
                return self._end(message)
        raise self._process.broken(f"answered a segment with {type(message).__name__}")


class FollowSession(Session[FollowMessage]):
    """A source that is followed. Its decoder gives signs of life even while it waits for us: those are passed on that
    tell of pictures, which need not be sampled ones."""

    _pictures = 0

    async def start_segment(self, start: StartSegment) -> None:
        """The answer to `SegmentCut`. Raises DecoderDiedError."""
        if not self._ended:
            await self._process.send(start)

    def _progressed(self, progress: Progress) -> FollowMessage | None:
        before, self._pictures = self._pictures, progress.steps
        return progress if progress.steps > before else None

    def _accept(self, message: FromDecoder) -> FollowMessage:
        match message:
            case FrameReady():
                self._take_back(message.slot)
                return message
            case Connected() | PackSynced() | FramesLost() | SegmentCut():
                return message
            case SegmentDone():
                return self._end(message)
        raise self._process.broken(f"answered a source with {type(message).__name__}")
