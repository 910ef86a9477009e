"""The inference worker processes: N supervised children, fed by least load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from monolith.domain.models import ModelIdentity
from monolith.inference.errors import WorkerStartError
from monolith.inference.messages import FrameRef, FrameResult, Ready
from monolith.inference.supervisor import (
    FaultyWorkerError,
    PoolLimits,
    Results,
    SupervisedWorker,
    WorkerLaunch,
    WorkerState,
)

_UNKNOWN_SECONDS: Final = 0.01
_NEW_WEIGHT: Final = 0.1
"""Of a batch's seconds per frame in the moving average that stands for its model."""


class WorkerPool:
    """`start`, then `submit` while `has_room`; `close` ends every process. `on_room`, set by the one who submits, is
    called when there may be room."""

    def __init__(self, launch: WorkerLaunch, *, workers: int, limits: PoolLimits | None = None) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least 1 worker, not {workers}")
        self._limits = limits or PoolLimits()
        self._models = launch.config.models
        self._identities: dict[str, ModelIdentity] = {}
        self._seconds: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self.on_room: Callable[[], None] = lambda: None
        self._workers = [
            SupervisedWorker(index, launch, self._limits, accept=self._accept, on_change=self._change)
            for index in range(workers)
        ]

    @property
    def identities(self) -> dict[str, ModelIdentity]:
        """By model key, as the workers reported them; empty before the first is ready."""
        return dict(self._identities)

    @property
    def healthy(self) -> bool:
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why no batch can run now, for people; None when a worker is ready."""
        if self._runner is None or self._runner.done():
            return "the inference pool is not running"
        if any(worker.ready for worker in self._workers):
            return None
        return "no inference worker is ready: " + self._describe_workers()

    @property
    def ready_count(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def states(self) -> tuple[WorkerState, ...]:
        return tuple(worker.state() for worker in self._workers)

    async def start(self) -> None:
        """Start all workers; return when one is ready. Raises WorkerStartError, with a worker's last words, when every
        worker failed `start_attempts` times or none is ready within `start_timeout`; nothing runs then."""
        assert self._runner is None
        self._runner = asyncio.create_task(self._supervise(), name="inference pool")
        why = "no inference worker came up"
        try:
            async with asyncio.timeout(self._limits.start_timeout):
                await self._until(lambda: self.ready_count > 0 or self._hopeless())
        except TimeoutError:
            why = f"no inference worker was ready within {self._limits.start_timeout:g} s"
        finally:
            ready = self.ready_count > 0
            if not ready:
                await self.close()
        if not ready:
            raise WorkerStartError(f"{why}: {self._describe_workers()}")

    async def close(self) -> None:
        """End every worker (killed after `stop_timeout`), fail what is in flight. Idempotent."""
        for worker in self._workers:
            worker.close()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})

    async def join(self) -> None:
        """Wait until the pool ends: returns after `close`, raises what broke its supervision."""
        assert self._runner is not None
        await asyncio.wait({self._runner})
        with contextlib.suppress(asyncio.CancelledError):
            self._runner.result()

    def has_room(self) -> bool:
        return any(worker.has_room for worker in self._workers)

    async def submit(
        self, model: str, frames: Sequence[FrameRef], traces: Sequence[str] = ()
    ) -> asyncio.Future[Results]:
        """Send a batch to the least loaded worker with room; only when `has_room`. The answer, in the order of
        `frames`, fails with WorkerDiedError when the worker ends first. `traces`: as in `InferBatch`."""
        worker = min((worker for worker in self._workers if worker.has_room), key=self._load)
        return await self._submit_to(worker, model, tuple(frames), tuple(traces))

    async def run_alone(
        self, model: str, frame: FrameRef, *, timeout: float, traces: Sequence[str] = ()
    ) -> FrameResult:
        """Isolated mode: judge one frame on a worker that has nothing else meanwhile. Raises WorkerDiedError when the
        worker dies of it, TimeoutError when no worker came free for it within `timeout` seconds."""
        async with asyncio.timeout(timeout):
            worker = await self._reserve()
        try:
            answer = await self._submit_to(worker, model, (frame,), tuple(traces))
            return (await answer)[0]
        finally:
            self._release(worker)

    async def _reserve(self) -> SupervisedWorker:
        """The least loaded ready worker, once it has nothing in flight; closed to other batches until released."""
        while True:
            await self._until(self._can_reserve)
            worker = min((worker for worker in self._workers if self._free(worker)), key=self._load)
            worker.reserved = True
            try:
                await self._until(lambda worker=worker: worker.idle or not worker.ready)  # type: ignore[misc]
            except BaseException:
                self._release(worker)
                raise
            if worker.ready:
                return worker
            self._release(worker)  # it died of something else

    def _release(self, worker: SupervisedWorker) -> None:
        worker.reserved = False
        self._change()

    def _free(self, worker: SupervisedWorker) -> bool:
        return worker.ready and not worker.reserved

    def _can_reserve(self) -> bool:
        return any(self._free(worker) for worker in self._workers)

    async def _submit_to(
        self, worker: SupervisedWorker, model: str, frames: tuple[FrameRef, ...], traces: tuple[str, ...]
    ) -> asyncio.Future[Results]:
        answer = await worker.submit(model, frames, traces)
        answer.add_done_callback(lambda answer: self._learn(model, answer))
        return answer

    def _learn(self, model: str, answer: asyncio.Future[Results]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        results = answer.result()
        seconds = sum(result.seconds for result in results) / len(results)
        before = self._seconds.get(model, seconds)
        self._seconds[model] = before + _NEW_WEIGHT * (seconds - before)

    def _load(self, worker: SupervisedWorker) -> float:
        return worker.load(lambda model: self._seconds.get(model, _UNKNOWN_SECONDS))

    async def _supervise(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(worker.supervise(), name=f"inference worker {worker.index}")

    def _accept(self, ready: Ready) -> None:
        """All workers must be the same: a run records one identity of a model."""
        identities = {identity.key: identity for identity in ready.models}
        missing = sorted(set(self._models) - set(identities))
        if missing:
            raise FaultyWorkerError(f"came up without {', '.join(missing)}")
        if self._identities and identities != self._identities:
            raise FaultyWorkerError(
                "came up with other models than the workers before it: restart the program"
            )
        self._identities = identities

    def _hopeless(self) -> bool:
        return all(worker.failed_starts >= self._limits.start_attempts for worker in self._workers)

    def _describe_workers(self) -> str:
        words = (
            worker.last_error or f"inference worker {worker.index} is starting" for worker in self._workers
        )
        return "; ".join(words)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a change that makes `condition` true. The caller sets the deadline."""
        while not condition():
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()  # wakes all who wait now …
        self._changed.clear()  # … and nobody later
        self.on_room()
