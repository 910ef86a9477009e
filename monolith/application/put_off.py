"""Jobs that failed too often to be tried again at once, and that nobody can be spared: they wait, longer every time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, TypeAlias

from monolith.application.log_context import in_words
from monolith.domain.jobs import Job

Again: TypeAlias = Callable[[Job], Awaitable[None]]

FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 3600.0
_MOST_DOUBLINGS: Final = 30


class PutOff:
    """Use it with `async with`; leaving forgets what waits. `again` is called with a job whose pause is over; what it
    raises ends whoever is inside the `async with`."""

    def __init__(self, again: Again, *, first: float | None = None, longest: float | None = None) -> None:
        self._again = again
        self._first = FIRST_PAUSE if first is None else first
        self._longest = LONGEST_PAUSE if longest is None else longest
        self._times: dict[Job, int] = {}
        self._hurries: dict[Job, asyncio.Event] = {}
        self._waiting: dict[Job, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> PutOff:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """With an error (a cancellation, too) calls of `again` that are under way end, too; without, they are waited
        for."""
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        for task in self._waiting.values():
            task.cancel()
        await tasks.__aexit__(kind, error, trace)

    def __contains__(self, job: Job) -> bool:
        """Whether its pause goes on."""
        return job in self._waiting

    def put(self, job: Job) -> float:
        """Let it wait. The seconds: twice as many as the last time, unless it was `done` meanwhile."""
        times = self._times.get(job, 0)
        pause = min(self._first * 2.0 ** min(times, _MOST_DOUBLINGS), self._longest)
        self._times[job] = times + 1
        if self._tasks is not None and job not in self._waiting:
            name = f"pause before {in_words(job)}"
            self._waiting[job] = self._tasks.create_task(self._wait(job, pause), name=name)
        return pause

    def done(self, job: Job) -> None:
        """It succeeded: should it ever fail again, that is the first time."""
        self._times.pop(job, None)

    def forget(self, video_id: str) -> None:
        """Nothing more is to be done for the video: what is not waiting is forgotten."""
        for job in [job for job in self._times if job.video_id == video_id and job not in self._waiting]:
            del self._times[job]

    def hurry(self, video_id: str) -> None:
        """End the pauses of the video's jobs now."""
        for job, hurry in self._hurries.items():
            if job.video_id == video_id:
                hurry.set()

    async def _wait(self, job: Job, pause: float) -> None:
        hurry = self._hurries[job] = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await hurry.wait()
        finally:
            del self._hurries[job], self._waiting[job]
        await self._again(job)
