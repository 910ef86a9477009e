"""A catch-up subscription to `$all` of KurrentDB that outlives the connection it came by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol

import grpc
from kurrentdbclient import AsyncKurrentDBClient, Checkpoint
from kurrentdbclient import CaughtUp as ServerCaughtUp
from kurrentdbclient import RecordedEvent as ServerEvent
from kurrentdbclient.exceptions import KurrentDBClientError

from eventsourcing.adapters._kurrentdb_events import all_filter, is_ours, recorded
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import SubscriptionItem

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0
"""Answers to writes wait until read models have seen them: these must not be late when the server is back."""
_WINDOW: Final = 500
"""Events that the server looks at between two checkpoints, matching or not."""

_IDLE_SECONDS: Final = 1.0
_BREAKS: Final = (StoreUnavailableError, KurrentDBClientError, grpc.RpcError, grpc.aio.UsageError)

logger = logging.getLogger(__name__)


class Log(Protocol):
    """The store, as a subscription needs it."""

    last_position: int

    def note(self, position: int) -> None:
        """There is an event at this commit position."""
        ...

    async def head(self) -> int | None: ...

    async def read_all(
        self, *, after: int | None = None, prefixes: Sequence[str] = (), limit: int = 1000
    ) -> list[RecordedEvent]: ...


class KurrentDbSubscription:
    """Async context manager and iterator, as `EventStore.subscribe` promises. For one task.

    One task of its own reads ahead, by two items at most. Where the server goes away it comes back to where it was,
    after pauses that grow; the iteration waits meanwhile and raises nothing.
    """

    def __init__(
        self,
        client: AsyncKurrentDBClient,
        log: Log,
        *,
        after: int | None,
        prefixes: Sequence[str],
        page_size: int,
    ) -> None:
        self._client = client
        self._log = log
        self._prefixes = tuple(prefixes)
        self._page_size = page_size
        self._through = after
        """Up to here everything was looked at and either buffered or passed over."""
        self._buffer: list[RecordedEvent] = []
        self._live = False
        self._announced = False
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KurrentDbSubscription:
        self._reading = asyncio.create_task(self._follow(), name="KurrentDB subscription")
        self._reading.add_done_callback(lambda _: self.end())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if not self._reading.cancelled() and error is None and (failure := self._reading.exception()):
            raise failure

    def end(self) -> None:
        """End the iteration."""
        self._ended = True
        self._news.set()

    def __aiter__(self) -> KurrentDbSubscription:
        return self

    async def __anext__(self) -> SubscriptionItem:
        while not self._ended:
            if self._buffer:
                return self._take()
            if self._live and not self._announced:
                self._announced = True
                return CaughtUp(commit_position=self._through)
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    def _take(self) -> list[RecordedEvent]:
        events, self._buffer = self._buffer[: self._page_size], self._buffer[self._page_size :]
        self._announced = False
        self._room.set()
        return events

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._move_when_idle())

    async def _move_when_idle(self) -> None:
        """The server says where it is only now and then. Where nothing matches for long, a look at what was stored
        meanwhile moves the position on: checkpoints do not stay behind, and lag is not seen where there is none."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS)
            newest, through = self._log.last_position, self._through
            if not self._live or self._buffer or newest <= (through or 0):
                continue
            with contextlib.suppress(StoreUnavailableError):
                between = await self._log.read_all(after=through, prefixes=self._prefixes, limit=1)
                if not between and self._through == through:
                    self._through = newest
                    self._announced = False
                    self._news.set()

    async def _read(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            before = self._through
            try:
                await self._read_connection()
                reason = "the server ended it"
            except Exception as error:
                if not (self._ended or isinstance(error, _BREAKS)):  # a closed driver raises anything
                    raise
                reason = str(error) or type(error).__name__
            if self._ended:
                return
            if self._live or self._through != before:
                pause = _FIRST_PAUSE
            level = logging.WARNING if pause == _FIRST_PAUSE else logging.DEBUG
            logger.log(
                level, "a subscription to KurrentDB broke off, it is tried until it is back: %s", reason
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _read_connection(self) -> None:
        self._live = False
        head = await self._log.head()
        responses = await self._client.subscribe_to_all(
            commit_position=self._through,
            include_checkpoints=True,
            include_caught_up=True,
            window_size=_WINDOW,
            checkpoint_interval_multiplier=1,
            **all_filter(self._prefixes),
        )
        try:
            async for response in responses:
                self._take_in(response, head)
                while len(self._buffer) >= 2 * self._page_size:
                    self._room.clear()
                    await self._room.wait()
        finally:
            with contextlib.suppress(KurrentDBClientError, grpc.RpcError):
                await responses.stop()

    def _take_in(self, response: ServerEvent, head: int | None) -> None:
        """`head`: of the store, before this connection."""
        if isinstance(response, ServerCaughtUp):
            self._live = True
            # Old servers do not say where they are.
            if self._move_to(max(response.commit_position or 0, head or 0)):
                self._announced = False
        elif isinstance(response, Checkpoint):
            self._move_to(response.commit_position or 0)
            self._announced = False  # so that those who keep a checkpoint move it, though nothing matches
        elif self._move_to(response.commit_position or 0) and is_ours(response):
            self._buffer.append(recorded(response))
        self._news.set()

    def _move_to(self, position: int) -> bool:
        """False where that was looked at before."""
        if position <= (self._through or 0):
            return False
        self._through = position
        self._log.note(position)
        return True
