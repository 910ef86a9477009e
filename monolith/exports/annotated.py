"""Annotated videos as jobs in the background: asked for, watched, cancelled, kept for the next who asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from types import TracebackType
from typing import Final, Literal, TypeAlias

import msgspec

from monolith.domain.errors import VideoNotFoundError
from monolith.exports.errors import AnnotatedError, TooManyError, VideoGoneError
from monolith.exports.files import AnnotatedFiles, ReadyFile
from monolith.exports.making import Maker, Progress
from monolith.exports.options import AnnotatedOptions, Subject, subject_of
from monolith.readmodels.queries import ReadModels

_FRESH_SECONDS: Final = 60.0
"""While the analysis goes on, a file is not made anew before: who asked for it must have time to fetch it."""
_FAILURES_KEPT: Final = 200
_TIDY_SECONDS: Final = 30.0

Status: TypeAlias = Literal["queued", "running", "ready", "failed"]
Key: TypeAlias = tuple[str, str]
"""Video id, digest of the options."""

logger = logging.getLogger(__name__)


class AnnotatedState(msgspec.Struct, frozen=True, kw_only=True):
    """How it is with an annotated video. `fraction`: 0–1; `frames`: encoded so far; `file`: when it is ready."""

    status: Status
    fraction: float
    frames: int
    error: str | None = None
    file: ReadyFile | None = None


class _Job:
    """A video that waits or is being made."""

    def __init__(self, options: AnnotatedOptions) -> None:
        self.options = options
        self.progress = Progress()
        self.running = False
        self.task: asyncio.Task[None]

    def state(self) -> AnnotatedState:
        return AnnotatedState(
            status="running" if self.running else "queued",
            fraction=self.progress.fraction,
            frames=self.progress.frames,
        )


class AnnotatedVideos:
    """Some are made at the same time, some more wait; each by a process of its own.

    Enter it to sweep what a crash left; leaving ends all that is under way.
    """

    def __init__(
        self, models: ReadModels, maker: Maker, files: AnnotatedFiles, *, at_once: int = 2, waiting: int = 32
    ) -> None:
        """`at_once`: how many are made at the same time; `waiting`: how many more may be asked for."""
        self._models = models
        self._maker = maker
        self._files = files
        self._turns = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._jobs: dict[Key, _Job] = {}
        self._failures: OrderedDict[Key, str] = OrderedDict()
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False
        self.kept_bytes = 0
        """What finished files took when it was last looked at."""

    async def __aenter__(self) -> AnnotatedVideos:
        await asyncio.to_thread(self._files.sweep)
        await self._measure()
        self._tidying = asyncio.create_task(self._tidy(), name="room for annotated videos")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._tidying is not None:
            await _end([self._tidying])
        await _end([job.task for job in self._jobs.values()])

    @property
    def running(self) -> int:
        return sum(job.running for job in self._jobs.values())

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    async def ask(self, video_id: str, options: AnnotatedOptions) -> AnnotatedState:
        """Find it or have it made. Raises VideoNotFoundError, NothingToShowError, TooManyError."""
        return await self._find_or_start(video_id, options, again=True)

    async def fetch(self, video_id: str, options: AnnotatedOptions, version: str | None) -> AnnotatedState:
        """As `ask`, but what failed stays so, and `version` is good as long as it is there, though there be a newer."""
        if version is not None:
            await self._models.video(video_id)
            for file in await asyncio.to_thread(self._files.find, video_id, options.digest):
                if file.made.version == version:
                    return await self._ready(file)
        return await self._find_or_start(video_id, options, again=False)

    async def state(self, video_id: str, options: AnnotatedOptions) -> AnnotatedState | None:
        """How it is; None: it was not asked for, or there is more to show by now. Raises VideoNotFoundError."""
        subject = subject_of(await self._models.video(video_id), options)
        key = video_id, options.digest
        if key in self._jobs:
            return self._jobs[key].state()
        current = await self._current(subject)
        if current is not None:
            return await self._ready(current)
        return self._failure(key)

    async def cancel(self, video_id: str, options: AnnotatedOptions) -> bool:
        """End what is under way, and remove what is there; whether there was anything."""
        key = video_id, options.digest
        job = self._jobs.get(key)
        if job is not None:
            await _end([job.task])
        files = await asyncio.to_thread(self._files.find, video_id, options.digest)
        await asyncio.to_thread(self._files.remove, files)
        await self._measure()
        failed = self._failures.pop(key, None)
        return bool(files) or job is not None or failed is not None

    async def forget(self, video_id: str) -> None:
        """End all that is under way for a video that was deleted."""
        await _end([job.task for key, job in self._jobs.items() if key[0] == video_id])

    async def _find_or_start(
        self, video_id: str, options: AnnotatedOptions, *, again: bool
    ) -> AnnotatedState:
        subject = subject_of(await self._models.video(video_id), options)
        key = video_id, options.digest
        if key not in self._jobs:
            if (current := await self._current(subject)) is not None:
                return await self._ready(current)
            if not again and (failure := self._failure(key)) is not None:
                return failure
            await self._maker.require_frames(subject)
        job = self._jobs.get(key) or self._start(key, options)
        return job.state()

    async def _current(self, subject: Subject) -> ReadyFile | None:
        """The file that shows what there is to show, or almost."""
        digest, version = subject.options.digest, subject.version
        files = await asyncio.to_thread(self._files.find, subject.video.video_id, digest)
        newest = files[0] if files else None
        if newest is not None and not subject.complete and time.time() - newest.made.made_at < _FRESH_SECONDS:
            return newest
        return next((file for file in files if file.made.version == version), None)

    async def _ready(self, file: ReadyFile) -> AnnotatedState:
        await asyncio.to_thread(self._files.used, file)
        return AnnotatedState(status="ready", fraction=1.0, frames=file.made.frames, file=file)

    def _failure(self, key: Key) -> AnnotatedState | None:
        error = self._failures.get(key)
        return None if error is None else AnnotatedState(status="failed", fraction=0.0, frames=0, error=error)

    def _start(self, key: Key, options: AnnotatedOptions) -> _Job:
        if self._closed or len(self._jobs) >= self._most:
            raise TooManyError(f"{len(self._jobs)} annotated videos are waiting already; ask again later")
        self._failures.pop(key, None)
        job = self._jobs[key] = _Job(options)
        job.task = asyncio.create_task(self._run(key, job), name=f"annotated video of {key[0]}")
        # Not in `_run`: a task that is cancelled before its first step runs nothing of it.
        job.task.add_done_callback(lambda _: self._jobs.pop(key, None))
        return job

    async def _run(self, key: Key, job: _Job) -> None:
        """Never fails: what went wrong is the answer to who asks."""
        try:
            async with self._turns:
                job.running = True
                await self._make(key[0], job)
        except (VideoGoneError, VideoNotFoundError):
            logger.info("the video %s was deleted while its annotated video was made", key[0])
        except AnnotatedError as error:
            self._failed(key, str(error))
        except OSError as error:
            self._failed(key, f"the video cannot be written: {error.strerror or error}")
        except Exception:
            logger.exception("the annotated video of %s could not be made", key[0])
            self._failed(key, "the server failed to make it; its log says why")

    async def _make(self, video_id: str, job: _Job) -> None:
        """Of the video as it is when the turn comes."""
        subject = subject_of(await self._models.video(video_id), job.options)
        await self._maker.make(subject, job.progress)
        await self._measure()

    async def _measure(self) -> None:
        self.kept_bytes = await asyncio.to_thread(self._files.total_bytes)

    def _failed(self, key: Key, error: str) -> None:
        logger.warning("the annotated video of %s was not made: %s", key[0], error)
        self._failures[key] = error
        while len(self._failures) > _FAILURES_KEPT:
            self._failures.popitem(last=False)

    async def _tidy(self) -> None:
        """Finished files go when the disk is short of room for anything else."""
        while True:
            try:
                if await asyncio.to_thread(self._files.short_of_room):
                    await asyncio.to_thread(self._files.keep_within_bounds)
                    await self._measure()
            except OSError as error:
                logger.warning("annotated videos could not be tidied: %s", error)
            await asyncio.sleep(_TIDY_SECONDS)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
