"""The parent's side of decoding: a pool of decoder processes and the sessions that they work on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from monolith.application.log_context import logged_fields
from monolith.application.ports import DecodeRequest
from monolith.application.redaction import redacted
from monolith.domain.segment import SourceInfo
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoder_process import DecoderProcess
from monolith.ingest.errors import DecoderDiedError, SourceError
from monolith.ingest.messages import (
    DecodeSegment,
    Failed,
    FollowSource,
    Probe,
    Probed,
    ProbeSource,
    Progress,
    ReadStored,
    SourceAccess,
)
from monolith.ingest.sessions import DecodeSession, FollowSession

_PROBE_TIMEOUTS: Final = 6
"""A source that does not answer ends its probe by itself much earlier than after so many of its timeouts."""

_NAMED: Final = {"video_id": "video", "segment": "segment"}
"""Log field → word, of what a line about a request begins with."""

logger = logging.getLogger(__name__)


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
        return await self._probe(Probe(str(path), str(scan_path), segment_seconds), timeout)

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        """What comes from there. Raises SourceError, DecoderDiedError."""
        return await self._probe(ProbeSource(access), _PROBE_TIMEOUTS * _longest_wait(access))

    async def _probe(self, request: Probe | ProbeSource, timeout: float) -> SourceInfo:
        async with self._process(None) as process:
            try:
                async with asyncio.timeout(timeout):
                    return await self._ask(process, request)
            except TimeoutError as error:
                process.kill()
                raise DecoderDiedError(f"the probe took longer than {timeout:g} s") from error
            except asyncio.CancelledError:
                process.kill()
                raise

    async def _ask(self, process: DecoderProcess, request: Probe | ProbeSource) -> SourceInfo:
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
            session = DecodeSession(process, _in_words(request))
            process.waits_for_us = True
            try:
                await process.send(request)
                yield session
            finally:
                await session.finish()
                at_end = session.done is not None and session.done.end_of_source
                process.kept_path = None if at_end else _kept_path(request)

    @contextlib.asynccontextmanager
    async def follow(self, request: FollowSource) -> AsyncIterator[FollowSession]:
        """Follow a source in a process of the pool (waits for one); leaving the context ends it.

        Raises DecoderDiedError.
        """
        async with self._process(None) as process:
            session = FollowSession(process, _about(f"following {redacted(request.access.url)}"))
            try:
                await process.send(request)
                yield session
            finally:
                await session.finish()

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


def _longest_wait(access: SourceAccess) -> float:
    return access.connect_timeout + access.read_timeout


def _in_words(request: DecodeRequest) -> str:
    """What is being done, for the log."""
    match request:
        case DecodeSegment(path=path):
            return _about(f"decoding {Path(path).name!r}")
        case ReadStored(frames=frames):
            packs = dict.fromkeys(Path(source.pack_path).name for source in frames)
            return _about(f"reading stored frames ({', '.join(packs)})")


def _about(doing: str) -> str:
    """With the video and the segment, where they are known."""
    fields = logged_fields()
    known = [f"{word} {fields[name]}" for name, word in _NAMED.items() if name in fields]
    return ", ".join([*known, doing])


def _kept_path(request: DecodeRequest) -> str | None:
    """The file that the decoder keeps open after `request`: a sequential source, for its next segment."""
    match request:
        case DecodeSegment(path=path, pts_digest=None):
            return path
    return None
