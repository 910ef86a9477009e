"""Waits until what has expired is purged, by whomever: the events tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore, SubscriptionItem
from monolith.domain.events import SegmentsExpired, SegmentsPurged
from monolith.domain.video import expired_numbers

OnPurged: TypeAlias = Callable[[SegmentsPurged], None]

_PREFIX: Final = "video-"
_PATIENCE_SECONDS: Final = 600.0
_Purge: TypeAlias = tuple[str, tuple[int, ...]]


class PurgeWatch:
    """Use it with `async with`; tell it with `expect` what has expired: `on_purged` is called when it is purged."""

    def __init__(
        self,
        store: EventStore,
        codec: EventCodec,
        on_purged: OnPurged,
        *,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """`patience`: seconds in which something must be purged while something is expected."""
        self._store = store
        self._codec = codec
        self._on_purged = on_purged
        self._patience = patience
        self._expected: set[_Purge] = set()
        self._early: dict[_Purge, SegmentsPurged] = {}
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.position: int | None = None
        """Commit position of the last purge that was seen."""

    async def __aenter__(self) -> PurgeWatch:
        subscription = self._store.subscribe(after=await self._store.head(), prefixes=(_PREFIX,))
        self._task = asyncio.create_task(self._follow(subscription), name="watch over purges")
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))

    def expect(self, event: SegmentsExpired) -> None:
        purge = (event.video_id, expired_numbers(event))
        early = self._early.pop(purge, None)
        if early is not None:
            self._on_purged(early)
        else:
            self._expected.add(purge)

    async def until_all_purged(self) -> None:
        """Raises TimeoutError when nothing is purged for too long, and what ends the watching."""
        assert self._task is not None
        while self._expected:
            self._progress.clear()
            progress = asyncio.create_task(self._progress.wait())
            try:
                await asyncio.wait(
                    (progress, self._task), timeout=self._patience, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                progress.cancel()
            if self._task.done():
                self._task.result()
                raise TimeoutError("the event store was closed before all was purged")
            if not self._progress.is_set():
                left = sum(len(segments) for _, segments in self._expected)
                raise TimeoutError(
                    f"the files of {left} expired segments could not be removed for {self._patience:g} s; "
                    "the log says why, and it is tried again by itself"
                )

    async def _follow(
        self, subscription: AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]
    ) -> None:
        async with subscription as items:
            async for item in items:
                for recorded in item if isinstance(item, list) else ():
                    if recorded.event_type == SegmentsPurged.__name__:
                        self.position = recorded.commit_position
                        self._note(self._codec.decode(recorded))

    def _note(self, event: object) -> None:
        assert isinstance(event, SegmentsPurged)
        purge = (event.video_id, event.segments)
        if purge in self._expected:
            self._expected.discard(purge)
            self._on_purged(event)
        else:
            self._early[purge] = event
        self._progress.set()
