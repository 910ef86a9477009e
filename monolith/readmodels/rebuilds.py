"""The rebuilds of a program: which things can be rebuilt, one job at a time, and how far it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.domain.errors import InvalidRequestError, NotPossibleError
from monolith.readmodels.rebuilding import Rebuildable

PartState: TypeAlias = Literal["waiting", "running", "completed", "failed"]
JobState: TypeAlias = Literal["idle", "running", "completed", "failed"]

logger = logging.getLogger(__name__)


class Part(msgspec.Struct, kw_only=True):
    """One projection of a job. `events_total`: events there, as far as is known (null: not yet); while it runs it is a
    bound that comes down to `events_done`."""

    projection: str
    state: PartState = "waiting"
    events_done: int = 0
    events_total: int | None = None


class RebuildStatus(msgspec.Struct, kw_only=True):
    """The job that runs, or the last one since the program was started (`idle`: none). Times: Unix seconds."""

    state: JobState = "idle"
    projections: list[Part] = []
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None

    @property
    def progress(self) -> float:
        """0–1, over all its projections."""
        return sum(map(_progress, self.projections)) / max(1, len(self.projections))


def _progress(part: Part) -> float:
    if part.state == "completed":
        return 1.0
    return part.events_done / part.events_total if part.events_total else 0.0


class Rebuilds:
    """Starts rebuilds and watches them. Make it and use it in one event loop; `close` it before what it rebuilds."""

    def __init__(self, rebuildables: Iterable[Rebuildable] = (), *, clock: Callable[[], float]) -> None:
        self.status = RebuildStatus()
        self._rebuildables = {rebuildable.name: rebuildable for rebuildable in rebuildables}
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What can be rebuilt, in the order in which it is done."""
        return tuple(self._rebuildables)

    @property
    def running(self) -> bool:
        return self.status.state == "running"

    def start(self, names: Sequence[str] = ()) -> RebuildStatus:
        """Begin to rebuild what is named (nothing named: all), one after another.

        Raises InvalidRequestError for a name that there is not, NotPossibleError while another rebuild runs.
        """
        for name in names:
            if name not in self._rebuildables:
                right = ", ".join(self.names)
                raise InvalidRequestError(
                    f"there is no projection {name!r}; those that can be rebuilt are: {right}",
                    field="projection",
                )
        if self.running:
            named = ", ".join(part.projection for part in self.status.projections)
            raise NotPossibleError(
                f"a rebuild of {named} is running ({self.status.progress:.0%} done); start another when it has ended"
            )
        chosen = [name for name in self.names if not names or name in names]
        self.status = RebuildStatus(
            state="running", projections=[Part(projection=name) for name in chosen], started_at=self._clock()
        )
        self._task = asyncio.create_task(self._run(self.status), name="rebuild")
        return self.status

    async def wait(self) -> RebuildStatus:
        """Return when no job runs; the last one's status."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.status

    async def close(self) -> None:
        """Interrupt the job that runs: what it rebuilt stays as it was. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            if self.running:  # cancelled before its first step
                self._end(self.status, "failed", "interrupted")

    async def _run(self, status: RebuildStatus) -> None:
        part = None
        try:
            for part in status.projections:
                await self._rebuild(part)
            self._end(status, "completed")
        except BaseException as error:
            if part is not None:
                part.state = "failed"
            self._end(status, "failed", _words(error))
            if not isinstance(error, Exception):
                raise

    async def _rebuild(self, part: Part) -> None:
        def progress(done: int, total: int | None) -> None:
            part.events_done, part.events_total = done, total

        part.state = "running"
        started = self._clock()
        logger.info("rebuilding %s", part.projection)
        count = await self._rebuildables[part.projection].rebuild(progress)
        part.state, part.events_done, part.events_total = "completed", count, count
        logger.info("rebuilt %s from %d events in %.1f s", part.projection, count, self._clock() - started)

    def _end(self, status: RebuildStatus, state: JobState, error: str | None = None) -> None:
        status.state, status.error, status.ended_at = state, error, self._clock()


def _words(error: BaseException) -> str:
    """For users; what nobody expected goes to the log, too."""
    if isinstance(error, asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, StoreUnavailableError | OSError):
        logger.warning("the rebuild failed: %s", error)
        return str(error) or type(error).__name__
    logger.error("the rebuild failed", exc_info=error)
    return f"the rebuild failed ({type(error).__name__}); the server's log says why"
