"""The parent's side of decoding: a pool of decoder processes and the sessions that they work on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from monolith.application.log_context import logged_fields
from monolith.application.ports import DecodeRequest, DecoderMessage
from monolith.domain.segment import SourceInfo
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoder_process import DecoderProcess
from monolith.ingest.errors import DecoderDiedError, SourceError
from monolith.ingest.messages import (
    Cancel,
    DecodeSegment,
    Failed,
    FrameReady,
    PackSynced,
    Probe,
    Probed,
    Progress,
    ReadStored,
    SegmentDone,
    Slots,
)

_CANCEL_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class DecodeSession:
    """One request at work in a decoder process. Iterate until it ends; lend slots meanwhile.

    Iterating raises SourceError, DecoderDiedError.
    """

    def __init__(self, process: DecoderProcess, subject: str) -> None:
        """`subject`: what is decoded, for the log."""
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

    def __aiter__(self) -> DecodeSession:
        return self

    async def __anext__(self) -> DecoderMessage:
        while not self._ended:
            message = await self._next()
            if message is not None:
                return message
        raise StopAsyncIteration

    async def _next(self) -> DecoderMessage | None:
        """The next message for the caller, None for one that is not. Raises what iterating raises."""
        match await self._process.receive():
            case FrameReady() as ready:
                self._take_back(ready.slot)
                return ready
            case PackSynced() as synced:
                return synced
            case SegmentDone() as done:
                self._ended = True
                self._log_warnings(done)
                self.done = msgspec.structs.replace(done, unused_slots=tuple(sorted(self._lent)))
                self._lent.clear()
                return self.done
            case Failed() as failed:
                self._ended = True
                if self._cancelled:
                    return None
                raise SourceError(failed.reason, permanent=failed.permanent)
            case Progress():
                return None
            case message:
                raise self._process.broken(f"answered a segment with {type(message).__name__}")

    def _log_warnings(self, done: SegmentDone) -> None:
        for warning in done.warnings:
            logger.warning("%r: %s", self._subject, warning)

    def _take_back(self, slot: int) -> None:
        if slot not in self._lent:
            self._process.kill()
            raise DecoderDiedError(f"{self._process.name} filled slot {slot}, which it was not lent")
        self._lent.discard(slot)
        self._process.waits_for_us = not self._lent

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


class DecoderLoad(msgspec.Struct, frozen=True):
    """Decoder processes: at work, idle, allowed at once; started so far, and of these killed or crashed at work."""

    busy: int
    idle: int
    limit: int
    started: int
    lost: int


class DecoderPool:
    """At most `max_processes` decoder processes, started when needed, kept for later requests, replaced when they die.

    `silence_timeout`: seconds after which a decoder that has slots and says nothing is killed; `idle_timeout`:
    seconds after which one without work is stopped.
    """

    def __init__(
        self,
        slots: FrameSlots,
        max_processes: int,
        *,
        start_timeout: float = 30.0,
        silence_timeout: float = 30.0,
        idle_timeout: float = 60.0,
    ) -> None:
        self._slots = slots
        self._start_timeout = start_timeout
        self._silence_timeout = silence_timeout
        self._idle_timeout = idle_timeout
        self._room = asyncio.Semaphore(max_processes)
        self._max = max_processes
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._started = 0
        self._lost = 0
        self._reaper: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> DecoderPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pids(self) -> frozenset[int]:
        """Processes that live, at work or idle."""
        return frozenset(process.pid for process in (*self._idle, *self._busy))

    @property
    def load(self) -> DecoderLoad:
        return DecoderLoad(len(self._busy), len(self._idle), self._max, self._started, self._lost)

    async def probe(
        self, path: Path, scan_path: Path, segment_seconds: float, *, timeout: float = 600.0
    ) -> SourceInfo:
        """What `path` is; its pts table lies at `scan_path` afterwards where it is indexed.

        Raises SourceError, DecoderDiedError (also when it takes longer than `timeout` seconds).
        """
        async with self._process(None) as process:
            try:
                async with asyncio.timeout(timeout):
                    return await self._ask(process, Probe(str(path), str(scan_path), segment_seconds))
            except TimeoutError as error:
                process.kill()
                raise DecoderDiedError(f"the probe took longer than {timeout:g} s") from error
            except asyncio.CancelledError:
                process.kill()
                raise

    async def _ask(self, process: DecoderProcess, request: Probe) -> SourceInfo:
        await process.send(request)
        while True:
            match await process.receive():
                case Probed(source):
                    return source
                case Failed() as failed:
                    raise SourceError(failed.reason, permanent=failed.permanent)
                case Progress():
                    pass
                case message:
                    raise process.broken(f"answered a probe with {type(message).__name__}")

    @contextlib.asynccontextmanager
    async def open(self, request: DecodeRequest) -> AsyncIterator[DecodeSession]:
        """Start `request` in a process of the pool (waits for one); leaving the context ends it.

        Raises DecoderDiedError.
        """
        async with self._process(_kept_path(request)) as process:
            session = DecodeSession(process, _subject(request))
            process.waits_for_us = True
            try:
                await process.send(request)
                yield session
            finally:
                await session.finish()
                at_end = session.done is not None and session.done.end_of_source
                process.kept_path = None if at_end else _kept_path(request)

    @contextlib.asynccontextmanager
    async def _process(self, path: str | None) -> AsyncIterator[DecoderProcess]:
        """A process for one request; afterwards it is idle, or stopped if it died."""
        async with self._room:
            process = await self._idle_or_new(path)
            self._busy.add(process)
            process.waits_for_us = False
            process.work_for(logged_fields())
            try:
                yield process
            finally:
                process.work_for({})
                self._busy.discard(process)
                self._lost += process.dead and not self._closed
                await self._put_back(process)

    async def _idle_or_new(self, path: str | None) -> DecoderProcess:
        """One that has `path` open, else one that keeps nothing, else a new one, else the one idle for longest."""
        if self._closed:
            raise DecoderDiedError("the decoders are shut down")
        self._start_reaper()
        self._drop_dead()
        for wanted in (path, None) if path is not None else (None,):
            for process in self._idle:
                if process.kept_path == wanted:
                    self._idle.remove(process)
                    return process
        if len(self._idle) + len(self._busy) < self._max or not self._idle:
            return await self._start()
        return self._idle.pop(0)

    async def _start(self) -> DecoderProcess:
        self._started += 1
        process = await DecoderProcess.start(
            f"decoder {self._started}",
            self._slots,
            start_timeout=self._start_timeout,
            silence_timeout=self._silence_timeout,
        )
        if self._closed:
            await asyncio.shield(self._retire(process))
            raise DecoderDiedError("the decoders are shut down")
        return process

    async def _put_back(self, process: DecoderProcess) -> None:
        if process.dead or self._closed:
            await asyncio.shield(self._retire(process))
        else:
            process.idle_since = asyncio.get_running_loop().time()
            self._idle.append(process)

    def _retire(self, process: DecoderProcess) -> asyncio.Task[None]:
        """End a process that is neither idle nor busy any more. `close` waits for it."""
        task = asyncio.create_task(process.stop(), name=f"end of {process.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retired)
        return task

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        _log_failure(task)

    def _retire_idle(self, unwanted: Callable[[DecoderProcess], bool]) -> None:
        """All at once, without a wait in between: others take from the idle meanwhile."""
        retired = [process for process in self._idle if unwanted(process)]
        self._idle = [process for process in self._idle if process not in retired]
        for process in retired:
            self._retire(process)

    def _drop_dead(self) -> None:
        self._retire_idle(lambda process: process.dead)

    def _start_reaper(self) -> None:
        """Also in place of one that failed, which is in the log then."""
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="reaper of idle decoders")
            self._reaper.add_done_callback(_log_failure)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(self._idle_timeout / 4)
            long_ago = asyncio.get_running_loop().time() - self._idle_timeout
            self._retire_idle(lambda process: process.idle_since <= long_ago)  # noqa: B023 (called at once)

    async def close(self) -> None:
        """Kill what is at work (its sessions raise DecoderDiedError), stop the idle ones. Idempotent."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait([self._reaper])
        for process in self._busy:
            process.kill()
        self._retire_idle(lambda process: True)
        await asyncio.gather(*(process.stop() for process in self._busy))
        while self._retiring:
            await asyncio.wait(self._retiring)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s failed", task.get_name(), exc_info=error)


def _subject(request: DecodeRequest) -> str:
    """The name of the file that `request` reads."""
    match request:
        case DecodeSegment(path=path):
            return Path(path).name
        case ReadStored(frames=frames):
            return ", ".join(dict.fromkeys(Path(source.pack_path).name for source in frames))


def _kept_path(request: DecodeRequest) -> str | None:
    """The file that the decoder keeps open after `request`: a sequential source, for its next segment."""
    match request:
        case DecodeSegment(path=path, pts_digest=None):
            return path
    return None
