"""One worker process of the pool, kept alive: started, fed, watched, killed when it hangs, started again."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from monolith.inference.errors import WorkerDiedError
from monolith.inference.messages import (
    BatchDone,
    FrameRef,
    FrameResult,
    FromWorker,
    InferBatch,
    Ping,
    Pong,
    Ready,
)
from monolith.inference.worker import WorkerConfig
from monolith.processes import ChildDiedError, ChildProcess

logger = logging.getLogger(__name__)

WORKER_MODULE: Final = "monolith.inference.worker"
_OUTSIDE_KILLS: Final = (-signal.SIGKILL, -signal.SIGTERM)
"""Return codes of a worker that somebody killed. A crash has other ones."""

Status: TypeAlias = Literal["starting", "ready", "restarting", "stopped"]
Results: TypeAlias = tuple[FrameResult, ...]
T = TypeVar("T")


class WorkerLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is started: the frame slots that it sees (the parent's descriptor, number, bytes each)."""

    config: WorkerConfig
    slots_fd: int
    slot_count: int
    slot_bytes: int
    module: str = WORKER_MODULE


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `depth`: batches that a worker holds, the running one included; `batch_timeout`: of one
    running batch, then its worker is killed; `healthy_after`: a worker that was ready so long starts its back-off
    anew; `start_attempts`: `WorkerPool.start` gives up when every worker has failed so often."""

    depth: int = 2
    start_timeout: float = 60.0
    start_attempts: int = 2
    batch_timeout: float = 30.0
    ping_interval: float = 5.0
    ping_timeout: float = 10.0
    stop_timeout: float = 5.0
    backoff_first: float = 0.2
    backoff_max: float = 10.0
    healthy_after: float = 30.0


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as metrics and readiness see it. `pid`: None while there is no process; `busy_seconds`: inference time
    of all its lives; `restarts`: lives after the first; `last_error`: why its last life ended."""

    index: int
    status: Status
    pid: int | None
    batches_in_flight: int
    frames_in_flight: int
    batches_done: int
    frames_done: int
    busy_seconds: float
    restarts: int
    last_error: str | None


class InFlight(msgspec.Struct, eq=False):
    """A batch that a worker has and has not answered."""

    model: str
    frames: tuple[FrameRef, ...]
    answer: asyncio.Future[Results]


class FaultyWorkerError(Exception):
    """The worker said what it must not say."""


class SupervisedWorker:
    """`supervise` owns the process; everything else may be called while it runs.

    `accept` sees every `Ready` and raises FaultyWorkerError when that worker may not serve. `on_change` is called
    when room, status or load may have changed.
    """

    def __init__(
        self,
        index: int,
        launch: WorkerLaunch,
        limits: PoolLimits,
        *,
        accept: Callable[[Ready], None],
        on_change: Callable[[], None],
    ) -> None:
        self.index = index
        self.reserved = False
        self.failed_starts = 0
        self.last_error: str | None = None
        self._name = f"inference worker {index}"
        self._launch = launch
        self._limits = limits
        self._accept = accept
        self._on_change = on_change
        self._status: Status = "starting"
        self._child: ChildProcess | None = None
        self._ready_at: float | None = None
        self._killed_because: str | None = None
        self._killed_from_outside = False
        self._in_flight: dict[int, InFlight] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._pong = asyncio.Event()
        self._closing = asyncio.Event()
        self._numbers = itertools.count(1)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._batches_done = self._frames_done = self._restarts = 0
        self._busy_seconds = 0.0

    @property
    def ready(self) -> bool:
        return self._status == "ready"

    @property
    def idle(self) -> bool:
        return not self._in_flight

    @property
    def has_room(self) -> bool:
        return self.ready and not self.reserved and len(self._in_flight) < self._limits.depth

    def load(self, seconds: Callable[[str], float]) -> float:
        """Expected seconds of what is in flight; `seconds`: of one frame by a model."""
        return sum(len(batch.frames) * seconds(batch.model) for batch in self._in_flight.values())

    def state(self) -> WorkerState:
        return WorkerState(
            index=self.index,
            status=self._status,
            pid=self._child.pid if self._child else None,
            batches_in_flight=len(self._in_flight),
            frames_in_flight=sum(len(batch.frames) for batch in self._in_flight.values()),
            batches_done=self._batches_done,
            frames_done=self._frames_done,
            busy_seconds=self._busy_seconds,
            restarts=self._restarts,
            last_error=self.last_error,
        )

    async def submit(
        self, model: str, frames: tuple[FrameRef, ...], traces: tuple[str, ...] = ()
    ) -> asyncio.Future[Results]:
        """Send a batch. The answer fails with WorkerDiedError as soon as the worker has died. Only for a ready one."""
        assert self.ready and self._child is not None
        number = next(self._numbers)
        answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        self._in_flight[number] = InFlight(model, frames, answer)
        if len(self._in_flight) == 1:
            self._arm()
        try:
            await self._child.send(self._encoder.encode(InferBatch(number, model, frames, traces)))
        except ChildDiedError:
            logger.debug("%s died before it got batch %d", self._name, number)  # `_serve` fails the answer
        return answer

    def close(self) -> None:
        """No further life: what `supervise` needs to end, with its cancellation."""
        self._closing.set()

    async def supervise(self) -> None:
        """Keep a process running until closed and cancelled; its faults never end this."""
        backoff = self._limits.backoff_first
        try:
            while not self._closing.is_set():
                await self._live()
                if self._was_healthy():
                    backoff = self._limits.backoff_first
                await self._pause(backoff)
                backoff = min(2 * backoff, self._limits.backoff_max)
        finally:
            self._change("stopped")

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():  # the cancellation met a wait that swallowed it
            return
        self._change("restarting")
        logger.warning("%s; next start in %.1f s", self.last_error, seconds)
        await asyncio.sleep(seconds)
        self._restarts += 1

    async def _live(self) -> None:
        """One process from start to end."""
        self._ready_at = self._killed_because = None
        self._killed_from_outside = False
        self._change("starting")
        try:
            child = self._child = await self._start()
        except OSError as error:
            self.failed_starts += 1
            self.last_error = f"{self._name} could not be started: {error}"
            return
        fault = None
        try:
            await self._become_ready(child)
            await self._serve(child)
        except (ChildDiedError, FaultyWorkerError, msgspec.MsgspecError) as error:
            await self._note_how_it_ended(child, error)
            child.kill()
            fault = self._killed_because or str(error)
        finally:
            await self._end(child, fault)

    async def _note_how_it_ended(self, child: ChildProcess, error: Exception) -> None:
        """Before a kill of our own could be taken for somebody else's."""
        if isinstance(error, ChildDiedError) and self._killed_because is None:
            if child.returncode is None:
                await child.last_words()
            self._killed_from_outside = child.returncode in _OUTSIDE_KILLS

    async def _start(self) -> ChildProcess:
        launch = self._launch
        numbers = (launch.slots_fd, launch.slot_count, launch.slot_bytes)
        arguments = [*map(str, numbers), msgspec.json.encode(launch.config).decode()]
        start = asyncio.create_task(
            ChildProcess.start(self._name, launch.module, arguments, pass_fds=(launch.slots_fd,))
        )
        try:
            return await _to_the_end(start)
        except asyncio.CancelledError:
            if not start.cancelled() and start.exception() is None:
                await start.result().stop(self._limits.stop_timeout)
            raise

    async def _become_ready(self, child: ChildProcess) -> None:
        try:
            async with asyncio.timeout(self._limits.start_timeout):
                message = self._decoder.decode(await child.receive())
        except TimeoutError:
            raise FaultyWorkerError(f"was not ready within {self._limits.start_timeout:g} s") from None
        if not isinstance(message, Ready):
            raise FaultyWorkerError(f"said {type(message).__name__} before Ready")
        self._accept(message)
        self.failed_starts = 0
        self._ready_at = asyncio.get_running_loop().time()
        self._change("ready")

    async def _serve(self, child: ChildProcess) -> None:
        """Take answers until the child dies. Raises the first fault."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ping_when_idle(child), name=f"ping {self._name}")
                tasks.create_task(self._take_answers(child), name=f"answers of {self._name}")
        except* (ChildDiedError, FaultyWorkerError, msgspec.MsgspecError) as group:
            raise group.exceptions[0] from None

    async def _take_answers(self, child: ChildProcess) -> None:
        while True:
            message = self._decoder.decode(await child.receive())
            if isinstance(message, BatchDone):
                self._finish(message)
            elif isinstance(message, Pong):
                self._pong.set()
            else:
                raise FaultyWorkerError("said Ready twice")

    async def _ping_when_idle(self, child: ChildProcess) -> None:
        while True:
            await asyncio.sleep(self._limits.ping_interval)
            if self._in_flight:
                continue  # the batch's deadline watches
            self._pong.clear()
            try:
                async with asyncio.timeout(self._limits.ping_timeout):
                    await child.send(self._encoder.encode(Ping(next(self._numbers))))
                    await self._pong.wait()
            except TimeoutError:
                self._kill(f"did not answer a ping within {self._limits.ping_timeout:g} s")
                return

    def _finish(self, done: BatchDone) -> None:
        batch = self._in_flight.get(done.batch_id)
        if batch is None or len(done.results) != len(batch.frames):
            raise FaultyWorkerError(f"answered batch {done.batch_id}, which it did not have")
        del self._in_flight[done.batch_id]
        self._arm()
        self._batches_done += 1
        self._frames_done += len(done.results)
        self._busy_seconds += sum(result.seconds for result in done.results)
        if not batch.answer.done():
            batch.answer.set_result(done.results)
        self._on_change()

    def _arm(self) -> None:
        """Start the deadline of the batch that runs now: the oldest, since a worker answers in order."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._in_flight:
            seconds = self._limits.batch_timeout
            reason = f"did not answer a batch within {seconds:g} s"
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._kill, reason)

    def _kill(self, reason: str) -> None:
        assert self._child is not None
        self._killed_because = f"{self._name} (pid {self._child.pid}) {reason}"
        self._child.kill()

    async def _end(self, child: ChildProcess, fault: str | None) -> None:
        """Fail what is in flight at once, then see the process off."""
        was_ready = self._ready_at is not None
        self.last_error = fault or self.last_error
        self._change("stopped")
        self._fail_in_flight(fault or f"{self._name} is being stopped")
        try:
            await _to_the_end(asyncio.create_task(child.stop(self._limits.stop_timeout)))
        finally:
            self._child = None
            self.failed_starts += not was_ready
            self.last_error = self._describe(child, fault)

    def _fail_in_flight(self, reason: str) -> None:
        lost, self._in_flight = self._in_flight, {}
        self._arm()
        for batch in lost.values():
            if not batch.answer.done():
                error = WorkerDiedError(reason, from_outside=self._killed_from_outside)
                batch.answer.set_exception(error)
        self._on_change()

    def _describe(self, child: ChildProcess, fault: str | None) -> str:
        """Now that the process is gone its last words are complete."""
        end = child.describe_end()
        if fault is None or fault.split(":")[0] == end.split(":")[0]:
            return end
        return f"{fault}; {end}"

    def _was_healthy(self) -> bool:
        if self._ready_at is None:
            return False
        return asyncio.get_running_loop().time() - self._ready_at >= self._limits.healthy_after

    def _change(self, status: Status) -> None:
        self._status = status
        self._on_change()


async def _to_the_end(task: asyncio.Task[T]) -> T:
    """Wait for `task`, which a cancellation of the caller does not cut short (a process half made or half ended
    would be left to nobody)."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
