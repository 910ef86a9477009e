"""Catch-up subscriptions over any store that can read a page and tell that something was appended.

A subscription pulls: it holds no queue and owns no task, so a slow subscriber costs nothing but its own
lateness. Between two pages it remembers one position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol

import msgspec

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import SubscriptionItem

PAGE_SIZE: Final = 250
"""Events in one item of a subscription, at most. Larger pages are slower: they leave the processor's cache."""

POLL_SECONDS: Final = 1.0
"""How long an appended event may stay unseen when its wake-up is missed (another process appended it)."""


class Page(msgspec.Struct, frozen=True, gc=False):
    """A piece of the store in commit order.

    `events`: the matching ones; `through`: position up to which everything was looked at (None: the store is
    empty and the reader began at its start); `at_end`: nothing lay behind `through` at the time of the read.
    """

    events: list[RecordedEvent]
    through: int | None
    at_end: bool


class CommitSignal:
    """Tells waiting subscriptions, all in one event loop, that something was committed."""

    def __init__(self) -> None:
        self.count = 0
        self._news: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Wake all who wait. Call it in the event loop."""
        self.count += 1
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    async def wait(self, seen: int, timeout: float) -> None:
        """Return when `count` differs from `seen`, or after `timeout` seconds."""
        if self.count != seen:
            return
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._news,), timeout=timeout)


class Feed(Protocol):
    """What a subscription needs of its store."""

    signal: CommitSignal

    @property
    def closed(self) -> bool:
        """Whether the store has begun to close."""
        ...

    async def read_page(self, after: int | None, prefixes: Sequence[str], limit: int) -> Page:
        """Read on after `after`: up to `limit` matching events. May stop early (then `at_end` is False)."""
        ...


class Subscription:
    """Async context manager and iterator, as `EventStore.subscribe` promises. For one task.

    The iteration ends when the store closes or the context is left. A cancelled `__anext__` loses nothing:
    the next one delivers what it would have.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        after: int | None,
        prefixes: Sequence[str],
        page_size: int = PAGE_SIZE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._feed = feed
        self._after = after
        self._prefixes = tuple(prefixes)
        self._page_size = page_size
        self._poll_seconds = poll_seconds
        self._announced = False
        self._end_seen_at: int | None = None
        self._left = False

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> SubscriptionItem:
        while not self._ended():
            if not self._nothing_new():
                if events := await self._read():
                    self._announced = False
                    return events
            elif not self._announced:
                self._announced = True
                return CaughtUp(commit_position=self._after)
            else:
                await self._feed.signal.wait(self._feed.signal.count, self._poll_seconds)
                self._end_seen_at = None
        raise StopAsyncIteration

    def _ended(self) -> bool:
        return self._left or self._feed.closed

    def _nothing_new(self) -> bool:
        """The last page reached the end, and nothing was committed since it was asked for."""
        return self._end_seen_at == self._feed.signal.count

    async def _read(self) -> list[RecordedEvent]:
        seen = self._feed.signal.count
        try:
            page = await self._feed.read_page(self._after, self._prefixes, self._page_size)
        except StoreUnavailableError:
            if self._ended():
                return []
            raise
        if page.through != self._after:
            self._announced = False  # also where nothing matched: checkpoints and lag shall not stay behind
        self._after = page.through
        self._end_seen_at = seen if page.at_end else None
        return page.events
