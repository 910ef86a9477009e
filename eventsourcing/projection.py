"""Keeps a read model up to date: one task that feeds stored events to a projection, and survives bad ones.

Rules:
- Events are applied in commit order, batch by batch; the projection stores its checkpoint with its rows.
- A transient error (a full disk, a busy file) is tried again, for ever, ever more slowly; `state` says so.
- Any other error is an event's fault: the batch is halved until the event is alone; after a last try it is
  parked with its error, and the others go on.
- Later events of a parked event's stream depend on it: they are parked too, unapplied, in their order.
- What cannot be parked ends the runner; its owner sees the error.
- While it is paused nothing is applied, and another read model may take the place of the one it fed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from itertools import islice, takewhile
from types import TracebackType
from typing import Final, Protocol, TypeVar, runtime_checkable

from eventsourcing.errors import EventStoreError, ProjectionStoppedError, StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import EventStore, SubscriptionItem

T = TypeVar("T")

BATCH_SIZE: Final = 250
FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 5.0
TRANSIENT: Final[tuple[type[Exception], ...]] = (StoreUnavailableError, OSError, TimeoutError)


class Projection(Protocol):
    """A read model as its runner sees it."""

    @property
    def name(self) -> str: ...

    @property
    def prefixes(self) -> Sequence[str]:
        """Streams whose name starts with one of these; empty: all."""
        ...

    async def apply(self, events: list[RecordedEvent]) -> None:
        """Change the rows and set the checkpoint to the last event's commit position, all or none of it."""
        ...

    async def checkpoint(self) -> int | None:
        """The commit position of the last event applied or parked."""
        ...

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        """Keep `event` aside with its error and move the checkpoint to it, both or neither."""
        ...


@runtime_checkable
class RemembersParked(Protocol):
    """A projection that knows after a restart which streams have a parked event. Without it, the runner
    remembers them only while it lives."""

    async def parked_streams(self) -> Collection[str]: ...


class DependsOnParkedError(EventStoreError):
    """An earlier event of the same stream is parked: this one was not tried."""

    @classmethod
    def of(cls, event: RecordedEvent) -> DependsOnParkedError:
        return cls(f"an earlier event of stream {event.stream_name!r} is parked")


class RunnerState(Enum):
    """What a runner is doing."""

    NEW = "new"
    CATCHING_UP = "catching_up"
    LIVE = "live"
    RETRYING = "retrying"
    FAILED = "failed"
    STOPPED = "stopped"


class ProjectionRunner:
    """Runs one projection in one task. Use `start` and `stop`, or `async with`; then watch it with `wait`."""

    def __init__(
        self,
        store: EventStore,
        projection: Projection,
        *,
        batch_size: int = BATCH_SIZE,
        transient: tuple[type[Exception], ...] = TRANSIENT,
        attempts: int = 2,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`attempts`: how often an event alone is tried before it is parked."""
        self.projection = projection
        self.state = RunnerState.NEW
        self.position: int | None = None
        self.parked = 0
        self.last_error: BaseException | None = None
        self._store = store
        self._batch_size = batch_size
        self._transient = transient
        self._attempts = attempts
        self._sleep = sleep
        self._parked_streams: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._idle = False
        self._progress = asyncio.Event()
        self._turn = asyncio.Lock()
        """Held by who uses the projection: a step of the runner, or who has paused it."""
        self._exchanged = False
        """Whether the projection's position and parked streams have to be asked for again."""

    @property
    def running(self) -> bool:
        """Whether its task lives: also while it retries."""
        return self._task is not None and not self._task.done()

    @property
    def parked_streams(self) -> frozenset[str]:
        """Streams with a parked event, whose later events are parked too."""
        return frozenset(self._parked_streams)

    async def start(self) -> None:
        """Begin after the projection's checkpoint. Once."""
        if self._task is not None:
            raise RuntimeError(f"the runner of projection {self.projection.name} was started before")
        self._task = asyncio.create_task(self._run(), name=f"projection-{self.projection.name}")

    async def stop(self, timeout: float = 10.0) -> None:
        """End after what is being applied now; after `timeout` seconds, in its midst. Idempotent.

        Raises what made the runner fail, if it had.
        """
        self._stopping = True
        if self._task is not None:
            if self._idle:
                self._task.cancel()
            await asyncio.wait((self._task,), timeout=timeout)
            self._task.cancel()
        await self.wait()
        self._end(RunnerState.STOPPED)

    async def wait(self) -> None:
        """Return when the runner has stopped; raise what made it fail. For its owner, beside its own work."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        if self.state is RunnerState.FAILED and self.last_error is not None:
            raise self.last_error

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Within this context nothing is applied or parked; steps wait, also those that are tried again.

        The projection may write to another read model afterwards, if that has seen every event up to `position`:
        what it has seen beyond is not applied to it again. Waits for the step that is being done.
        """
        async with self._turn:
            try:
                yield
            finally:
                if self.state is not RunnerState.NEW:
                    self._exchanged = True
                    with contextlib.suppress(*self._transient):  # else the next step asks
                        await self._look_again()

    async def __aenter__(self) -> ProjectionRunner:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def lag(self) -> int:
        """How many commit positions lie between the last event applied and the newest that concerns it."""
        newest = await self._store.read_all(prefixes=self.projection.prefixes, backwards=True, limit=1)
        if not newest:
            return 0
        return max(0, newest[0].commit_position - (self.position or 0))

    async def wait_for(self, commit_position: int, timeout: float) -> None:
        """Return once every event up to `commit_position` that concerns the projection is applied or parked.

        Raises TimeoutError after `timeout` seconds, ProjectionStoppedError where it will not happen.
        """
        async with asyncio.timeout(timeout):
            while not self._has_reached(commit_position):
                progress = self._progress
                if await self._concerns_nothing_until(commit_position):
                    return
                if self.state in (RunnerState.FAILED, RunnerState.STOPPED):
                    raise ProjectionStoppedError(
                        f"projection {self.projection.name} is {self.state.value}"
                    ) from self.last_error
                await progress.wait()

    def _has_reached(self, commit_position: int) -> bool:
        return self.position is not None and self.position >= commit_position

    async def _concerns_nothing_until(self, commit_position: int) -> bool:
        """Whether no event of the projection lies between its position and `commit_position`."""
        if self.state is RunnerState.NEW:
            return False  # its position is not known yet
        following = await self._store.read_all(
            after=self.position, prefixes=self.projection.prefixes, limit=1
        )
        return not following or following[0].commit_position > commit_position

    # The task

    async def _run(self) -> None:
        try:
            await self._follow()
            self._end(RunnerState.STOPPED)
        except asyncio.CancelledError:
            self._end(RunnerState.STOPPED)
        except Exception as error:
            self.last_error = error
            self._end(RunnerState.FAILED)

    def _end(self, state: RunnerState) -> None:
        self.state = state
        self._announce()

    async def _follow(self) -> None:
        await self._retry(self._look_again)
        self.state = RunnerState.CATCHING_UP
        self._announce()
        backoffs = _backoffs()
        while not self._stopping:
            position = self.position
            try:
                await self._follow_subscription()
                return
            except self._transient as error:
                if self.position != position:
                    backoffs = _backoffs()
                await self._back_off(error, next(backoffs))

    async def _follow_subscription(self) -> None:
        """Until the store closes or `stop` is called."""
        prefixes = self.projection.prefixes
        async with self._store.subscribe(after=self.position, prefixes=prefixes) as items:
            while not self._stopping:
                try:
                    item = await self._while_idle(lambda: anext(items))
                except StopAsyncIteration:
                    return
                if self.state is RunnerState.RETRYING:
                    self.state = RunnerState.CATCHING_UP  # the store answers again
                await self._take(item)

    async def _take(self, item: SubscriptionItem) -> None:
        if isinstance(item, CaughtUp):
            self.state = RunnerState.LIVE
            self._advance(item.commit_position)
            return
        for start in range(0, len(item), self._batch_size):
            await self._work_off(item[start : start + self._batch_size])

    async def _work_off(self, events: list[RecordedEvent]) -> None:
        """Apply or park each of `events`, in their order."""
        while (events := self._unseen(events)) and not self._stopping:
            if events[0].stream_name in self._parked_streams:
                await self._park(events[0], DependsOnParkedError.of(events[0]))
                events = events[1:]
                continue
            free = list(takewhile(lambda event: event.stream_name not in self._parked_streams, events))
            await self._apply(free)
            events = events[len(free) :]

    async def _apply(self, events: list[RecordedEvent]) -> None:
        """All at once; where that fails, each half by itself; where an event alone fails, park it."""
        try:
            await self._retry(lambda: self._apply_unseen(events))
        except Exception as error:
            self.last_error = error
            if len(events) > 1:
                middle = len(events) // 2
                await self._work_off(events[:middle])
                await self._work_off(events[middle:])
                return
            await self._try_alone(events[0], error)
        else:
            self._advance(events[-1].commit_position)

    async def _try_alone(self, event: RecordedEvent, error: Exception) -> None:
        for backoff in islice(_backoffs(), self._attempts - 1):
            await self._while_idle(partial(self._sleep, backoff))
            try:
                await self._retry(lambda: self._apply_unseen([event]))
            except Exception as again:
                error = self.last_error = again
            else:
                self._advance(event.commit_position)
                return
        await self._park(event, error)

    async def _park(self, event: RecordedEvent, error: Exception) -> None:
        await self._retry(lambda: self._park_unseen(event, error))
        self._advance(event.commit_position)

    # Steps on the projection: since they were prepared, another read model may have taken its place.

    async def _apply_unseen(self, events: list[RecordedEvent]) -> None:
        if unseen := self._unseen(events):
            await self.projection.apply(unseen)

    async def _park_unseen(self, event: RecordedEvent, error: Exception) -> None:
        if self._unseen([event]):
            await self.projection.park(event, error)
            self.parked += 1
            self._parked_streams.add(event.stream_name)

    def _unseen(self, events: list[RecordedEvent]) -> list[RecordedEvent]:
        """Those behind `position`."""
        if self.position is None or not events or events[0].commit_position > self.position:
            return events
        return [event for event in events if event.commit_position > self.position]

    async def _look_again(self) -> None:
        """Ask the projection how far it is, and what it has parked."""
        position = await self.projection.checkpoint()
        if isinstance(self.projection, RemembersParked):
            self._parked_streams = set(await self.projection.parked_streams())
        self._exchanged = False
        self._advance(position)

    async def _retry(self, step: Callable[[], Awaitable[T]]) -> T:
        """The result of `step`, tried until it fails no more for a transient reason."""
        state = self.state
        for backoff in _backoffs():
            try:
                async with self._turn:
                    if self._exchanged:
                        await self._look_again()
                    result = await step()
            except self._transient as error:
                await self._back_off(error, backoff)
            else:
                self.state = state
                return result
        raise AssertionError("unreachable: backoffs never end")

    async def _back_off(self, error: Exception, seconds: float) -> None:
        self.last_error = error
        self.state = RunnerState.RETRYING
        await self._while_idle(partial(self._sleep, seconds))

    async def _while_idle(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait where `stop` may interrupt."""
        if self._stopping:
            raise asyncio.CancelledError
        self._idle = True
        try:
            return await wait()
        finally:
            self._idle = False

    def _advance(self, position: int | None) -> None:
        if position is not None:
            self.position = position if self.position is None else max(position, self.position)
        self._announce()

    def _announce(self) -> None:
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()


def _backoffs() -> Iterator[float]:
    """Seconds to wait: doubling, with jitter, for ever."""
    longest = FIRST_BACKOFF
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311
        longest = min(2 * longest, LONGEST_BACKOFF)
