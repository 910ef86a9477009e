"""Runs jobs: bounded, fair between videos, each job at most once at a time.

Rules:
- `offer` replaces what waits for a video. A job that runs is never started beside itself; offered again meanwhile,
  it runs once more when it has ended (a failed attempt is offered again before its task is over).
- Each kind of job has its lane with its own number of places, so a slow download never holds up analysis, and sources
  that never end hold up nothing else.
- Videos take turns: a lane serves the video that was served longest ago. One that needs nothing more is forgotten.
- A job that raises is tried again after a growing pause, and given up after `attempts` times; one that the machine
  cannot take now (disk full, store away), or that another process does, is never given up. What failed after hours of
  work fails for the first time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from eventsourcing.errors import StoreUnavailableError
from monolith.application.errors import EnvironmentFailure, RetryableFailure
from monolith.application.log_context import fields_of, in_words, log_context, name_of
from monolith.domain.errors import SupersededError
from monolith.domain.jobs import Job

RunJob: TypeAlias = Callable[[Job], Awaitable[None]]
GiveUp: TypeAlias = Callable[[Job, Exception], Awaitable[None]]
Lane: TypeAlias = type[Job] | str
"""The name of a lane: the type of its jobs, or what sets it apart from another one for the same type."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LONG_WORK: Final = 3600.0
"""Seconds of work after which a failure does not count as one more in a row."""
_SERVED_REMEMBERED: Final = 10_000

logger = logging.getLogger(__name__)


class LaneLoad(NamedTuple):
    """Jobs that run; jobs that have no place yet; places in all."""

    running: int
    waiting: int
    places: int


class Scheduler:
    """Start it with `async with`; leaving ends all running jobs and waits for them."""

    def __init__(
        self,
        run_job: RunJob,
        give_up: GiveUp,
        places: Mapping[Lane, int],
        *,
        attempts: int = 5,
        lane_of: Callable[[Job], Lane] = type,
    ) -> None:
        self._run_job = run_job
        self._give_up = give_up
        self._attempts = attempts
        self._lane_of = lane_of
        self._lanes: dict[Lane, _Lane] = {kind: _Lane(count) for kind, count in places.items()}
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Scheduler:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        for task in self._running.values():
            task.cancel()
        await tasks.__aexit__(None, None, None)

    def offer(self, video_id: str, jobs: Sequence[Job]) -> None:
        """These are the jobs of the video now; none: it needs nothing more."""
        for kind, lane in self._lanes.items():
            lane.set(video_id, [job for job in jobs if self._lane_of(job) == kind])
            if not jobs:
                lane.forget(video_id)
        self._fill()

    def running(self) -> list[Job]:
        return list(self._running)

    def waiting(self) -> int:
        """Jobs offered that have no place yet."""
        return sum(lane.waiting(self._running) for lane in self._lanes.values())

    def lanes(self) -> dict[str, LaneLoad]:
        """Lane → what it has to do."""
        running = [self._lane_of(job) for job in self._running]
        return {
            name if isinstance(name, str) else name_of(name): LaneLoad(
                running.count(name), lane.waiting(self._running), lane.places
            )
            for name, lane in self._lanes.items()
        }

    def cancel(self, job: Job) -> None:
        """End a running job; it is not tried again unless offered again."""
        task = self._running.get(job)
        if task is not None:
            task.cancel()

    async def until_alone(self, job: Job) -> None:
        """Until no other job of the same video runs."""
        await self.until_ended([one for one in self._running if one.video_id == job.video_id and one != job])

    async def until_ended(self, jobs: Iterable[Job]) -> None:
        """Until none of `jobs` runs as it does now."""
        tasks = {self._running[job] for job in jobs if job in self._running}
        if tasks:
            await asyncio.wait(tasks)

    def _fill(self) -> None:
        if self._tasks is None:
            return
        for lane in self._lanes.values():
            while (job := lane.take(self._running)) is not None:
                task = self._tasks.create_task(self._logged_attempt(job), name=in_words(job))
                self._running[job] = task
                task.add_done_callback(partial(self._ended, job, lane))

    def _ended(self, job: Job, lane: _Lane, task: asyncio.Task[None]) -> None:
        """Also for a task that was cancelled before its first step."""
        del self._running[job]
        lane.give_back_place()
        self._fill()

    async def _logged_attempt(self, job: Job) -> None:
        with log_context(**fields_of(job)):
            await self._attempt(job)

    async def _attempt(self, job: Job) -> None:
        pause = _FIRST_PAUSE
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                return await self._run_job(job)
            except (EnvironmentFailure, StoreUnavailableError, SupersededError) as error:
                logger.warning("%s waits: %s", in_words(job), error)
            except Exception as error:  # one job's failure must not end the others
                long = asyncio.get_running_loop().time() - started > _LONG_WORK
                failures, pause = (1, _FIRST_PAUSE) if long else (failures + 1, pause)
                expected = isinstance(error, RetryableFailure)
                logger.warning(
                    "%s failed, try %d of %d: %s",
                    in_words(job), failures, self._attempts, error, exc_info=not expected,
                )  # fmt: skip
                if failures == self._attempts:
                    return await self._give_up_safely(job, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _give_up_safely(self, job: Job, error: Exception) -> None:
        try:
            await self._give_up(job, error)
        except Exception:
            logger.exception(
                "%s could not even be given up; it is tried again after a restart", in_words(job)
            )


class _Lane:
    """The jobs of one kind, by video; the video that was served longest ago comes first."""

    def __init__(self, places: int) -> None:
        self.places = self._free = places
        self._offered: dict[str, list[Job]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0

    def set(self, video_id: str, jobs: list[Job]) -> None:
        if jobs:
            self._offered[video_id] = jobs
        else:
            self._offered.pop(video_id, None)

    def forget(self, video_id: str) -> None:
        self._served.pop(video_id, None)

    def waiting(self, running: dict[Job, asyncio.Task[None]]) -> int:
        return sum(job not in running for jobs in list(self._offered.values()) for job in jobs)

    def take(self, running: dict[Job, asyncio.Task[None]]) -> Job | None:
        if self._free == 0:
            return None
        ready = (
            (self._served.get(job.video_id, 0), job)
            for jobs in self._offered.values()
            if (job := next((job for job in jobs if job not in running), None)) is not None
        )
        _, job = min(ready, key=lambda pair: pair[0], default=(0, None))
        if job is not None:
            self.set(job.video_id, [one for one in self._offered[job.video_id] if one != job])
            self._remember(job.video_id)
            self._free -= 1
        return job

    def give_back_place(self) -> None:
        self._free += 1

    def _remember(self, video_id: str) -> None:
        """A video that was served too long ago to be remembered counts as new: it comes first."""
        self._turn += 1
        self._served.pop(video_id, None)
        self._served[video_id] = self._turn
        if len(self._served) > _SERVED_REMEMBERED:
            del self._served[next(iter(self._served))]
