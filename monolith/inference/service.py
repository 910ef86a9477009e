"""Inference as the rest of the program sees it: a frame and a model's key in, what the model found out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from monolith.domain.models import ModelIdentity
from monolith.inference.batcher import DynamicBatcher
from monolith.inference.errors import (
    AnswerTimeoutError,
    FrameKillsWorkerError,
    NoWorkerError,
    QueueFullError,
    ServiceClosedError,
    WorkerDiedError,
)
from monolith.inference.messages import FrameRef, FrameResult
from monolith.inference.pool import WorkerPool
from monolith.inference.supervisor import Results, WorkerState

_DEATHS_BLAMED: Final = 3
"""Workers that must die of a frame (the first with its batch, the others of this frame alone) before it is refused."""
_KILLS_FORGIVEN: Final = 5
"""Kills from outside while a worker has a frame, which are nobody's fault; bounded, since it may be the frame that
makes the kernel run out of memory."""

logger = logging.getLogger(__name__)


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `max_queue_size`: frames waiting for one model, and frames waiting to be retried;
    `max_queue_delay`: how long a frame waits for others while a worker has room (0 on a CPU, where batches bring
    nothing but fewer messages); `answer_timeout`: of a whole `infer`; `isolation_timeout`: for a worker to come free
    for one frame alone."""

    max_batch_size: int = 4
    max_queue_size: int = 1024
    max_queue_delay: float = 0.0
    answer_timeout: float = 300.0
    isolation_timeout: float = 60.0


class _Request:
    """One frame for one model, waiting for its answer. Compared and hashed by identity."""

    __slots__ = ("answer", "deaths", "frame", "key", "kills", "model", "trace")

    def __init__(
        self, model: str, key: str, frame: FrameRef, answer: asyncio.Future[FrameResult], trace: str
    ) -> None:
        self.trace = trace
        self.model = model
        self.key = key
        self.frame = frame
        self.answer = answer
        self.deaths = 0
        """Workers that ended by themselves, or hung, with this frame."""
        self.kills = 0
        """Workers killed from outside with this frame."""

    def lost(self, error: WorkerDiedError) -> None:
        """A worker died that had this frame."""
        if error.from_outside:
            self.kills += 1
        else:
            self.deaths += 1

    @property
    def guilty(self) -> bool:
        return self.deaths >= _DEATHS_BLAMED or self.kills > _KILLS_FORGIVEN

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class InferenceService:
    """Owns its pool: `start` and `close` start and end it.

    Frames wait in one batcher a model and leave as a batch when a worker has room, so batches grow with the load and
    an idle pool adds no delay. When a worker dies, each frame that it held is tried again, alone: up to twice, then it
    is refused. A worker that was killed from outside proves nothing, and its frames are tried again for that.
    """

    def __init__(
        self,
        pool: WorkerPool,
        models: Sequence[str],
        *,
        limits: ServiceLimits | None = None,
        trace: Callable[[], str] = str,
    ) -> None:
        """`trace`: the traceparent of what asks; "" where it is of no trace."""
        self._pool = pool
        self._trace = trace
        self.limits = self._limits = limits or ServiceLimits()
        self._batchers = {model: self._batcher() for model in models}
        self._turns = deque(self._batchers)
        self._suspects: deque[_Request] = deque()
        self._open: set[_Request] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._suspected = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._end: Exception | None = ServiceClosedError("the inference service has not been started")

    @property
    def identities(self) -> dict[str, ModelIdentity]:
        """By model key. Empty before `start`."""
        return self._pool.identities

    @property
    def healthy(self) -> bool:
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why nothing can be judged now, for people; None when it can."""
        return str(self._end) if self._end else self._pool.reason

    def states(self) -> tuple[WorkerState, ...]:
        return self._pool.states()

    def pids(self) -> list[int]:
        """Worker processes that live."""
        return [state.pid for state in self.states() if state.pid is not None]

    def waiting(self) -> dict[str, int]:
        """Frames that wait for each model; `retries`: to be tried alone, the running one included."""
        waiting = {model: len(batcher) for model, batcher in self._batchers.items()}
        return {**waiting, "retries": len(self._suspects)}

    async def start(self) -> None:
        """Return when a worker is ready. Raises WorkerStartError; nothing runs then."""
        self._pool.on_room = self._wake.set
        await self._pool.start()
        self._end = None
        self._own(self._dispatch(), "inference dispatch")
        self._own(self._isolate(), "inference retries")
        self._own(self._pool.join(), "inference pool watch")

    async def close(self) -> None:
        """End the workers; frames still waiting fail with ServiceClosedError. Idempotent."""
        self._fail_all(ServiceClosedError("the inference service has been closed"))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._pool.close()

    async def join(self) -> None:
        """Wait until the service ends; raises what broke it, if not `close`."""
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled():
                task.result()

    async def infer(self, model_key: str, frame: FrameRef, *, key: str) -> FrameResult:
        """Judge `frame` by a model; `key` (a video) shares the workers fairly with other keys.

        Its slot is read until the answer; after an error or a cancellation a worker may still be reading it, without
        harm. Raises KeyError (unknown model), QueueFullError at once, FrameKillsWorkerError, and when nobody could
        judge it InferenceUnavailableError: AnswerTimeoutError, NoWorkerError (for the retry), ServiceClosedError.
        A failure inside the model is no error here: it is the result's `error`.
        """
        loop = asyncio.get_running_loop()
        request = _Request(model_key, key, frame, loop.create_future(), self._trace())
        self._admit(request, loop.time())
        try:
            async with asyncio.timeout(self._limits.answer_timeout):
                return await request.answer
        except TimeoutError:
            reason = self._pool.reason or "the workers are behind"
            message = f"no answer within {self._limits.answer_timeout:g} s: {reason}"
            raise AnswerTimeoutError(message) from None
        finally:
            self._open.discard(request)
            self._batchers[model_key].remove(key, request)

    def _batcher(self) -> DynamicBatcher[_Request]:
        return DynamicBatcher(
            max_batch_size=self._limits.max_batch_size,
            max_queue_size=self._limits.max_queue_size,
            max_queue_delay=self._limits.max_queue_delay,
        )

    def _admit(self, request: _Request, now: float) -> None:
        if self._end is not None:
            raise ServiceClosedError(str(self._end)) from self._end
        if len(self._suspects) >= self._limits.max_queue_size:
            raise QueueFullError(f"{len(self._suspects)} frames wait to be tried again")
        self._batchers[request.model].put(request.key, request, now)
        self._open.add(request)
        self._wake.set()

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (model := self._next_due()) is not None:
                await self._send(model)

    def _next_due(self) -> str | None:
        """The next model, in turn, with a batch to send and a worker to take it. If one is due later: wake then."""
        if not self._pool.has_room():
            return None
        now = asyncio.get_running_loop().time()
        later: list[float] = []
        for _ in range(len(self._turns)):
            model = self._turns[0]
            self._turns.rotate(-1)
            due = self._batchers[model].due_at()
            if due is not None and due <= now:
                return model
            if due is not None:
                later.append(due)
        self._wake_at(min(later, default=None))
        return None

    def _wake_at(self, when: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if when is not None:
            self._alarm = asyncio.get_running_loop().call_at(when, self._wake.set)

    async def _send(self, model: str) -> None:
        requests = self._batchers[model].take(self._pool.ready_count)
        frames = [request.frame for request in requests]
        traces = dict.fromkeys(request.trace for request in requests if request.trace)
        answer = await self._pool.submit(model, frames, tuple(traces))
        answer.add_done_callback(partial(self._answer, requests))

    def _answer(self, requests: list[_Request], answer: asyncio.Future[Results]) -> None:
        if isinstance(error := answer.exception(), WorkerDiedError):
            for request in requests:
                request.lost(error)
            self._suspects.extend(requests)
            self._suspected.set()
            return
        for request, result in zip(requests, answer.result(), strict=True):
            if not request.answer.done():
                request.answer.set_result(result)

    async def _isolate(self) -> None:
        """Try the frames of lost batches again, one after another, each alone on its worker."""
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            while self._suspects:
                await self._retry(self._suspects[0])
                self._suspects.popleft()

    async def _retry(self, request: _Request) -> None:
        while not request.answer.done():
            try:
                await self._try_alone(request)
            except WorkerDiedError as error:
                request.lost(error)
                if request.guilty:
                    times = f"{request.deaths + request.kills} times, at last alone"
                    request.fail(FrameKillsWorkerError(f"the frame ended its worker {times}: {error}"))

    async def _try_alone(self, request: _Request) -> None:
        """Raises WorkerDiedError."""
        try:
            result = await self._pool.run_alone(
                request.model,
                request.frame,
                timeout=self._limits.isolation_timeout,
                traces=[request.trace] if request.trace else (),
            )
        except TimeoutError:
            reason = self._pool.reason or "no worker came free"
            request.fail(NoWorkerError(f"its worker died, and the retry found none: {reason}"))
        else:
            if not request.answer.done():
                request.answer.set_result(result)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed: the service ends", task.get_name(), exc_info=error)
            self._fail_all(ServiceClosedError(f"{task.get_name()} failed: {error!r}"))

    def _fail_all(self, error: ServiceClosedError) -> None:
        self._end = self._end or error
        self._wake_at(None)
        for request in tuple(self._open):
            request.fail(error)
