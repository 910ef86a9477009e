"""Who of several copies of the program leads: it alone decides what is done next, and tells the world. And whether a
copy counts as one that lives: the others take what it does when it does not."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Final, Protocol

from eventsourcing.errors import EventStoreError, LeaseTakenError
from eventsourcing.leases import Leases

LEASE_SECONDS: Final = 15.0
"""A leader that dies is followed by another after this time, at the latest."""
_TRY_SECONDS: Final = 3.0

logger = logging.getLogger(__name__)


class Leadership(Protocol):
    """Whether this copy leads."""

    @property
    def leads(self) -> bool: ...

    async def wait_for(self, leads: bool) -> None:
        """Until this copy leads, or does not."""
        ...


class SoleLeadership:
    """Of a program that has its data to itself."""

    leads = True

    async def wait_for(self, leads: bool) -> None:
        if not leads:
            await asyncio.get_running_loop().create_future()


class LeasedLeadership:
    """Leadership under a lease, for as long as it can be held. At work within `async with`; leaving gives it back.

    `title`: what its holder is, for the log.
    """

    def __init__(
        self, leases: Leases, name: str, owner: str, *, title: str | None = None, ttl: float = LEASE_SECONDS
    ) -> None:
        self._leases = leases
        self._name = name
        self._title = title or name
        self._owner = owner
        self._ttl = ttl
        self._leading = asyncio.Event()
        self._following = asyncio.Event()
        self._following.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        return self._leading.is_set()

    async def wait_for(self, leads: bool) -> None:
        await (self._leading if leads else self._following).wait()

    async def __aenter__(self) -> LeasedLeadership:
        self._task = asyncio.create_task(self._run(), name=f"leadership {self._name}")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._set(leads=False)
        if error is None and not self._task.cancelled() and (failure := self._task.exception()):
            raise failure

    async def _run(self) -> None:
        say = logger.warning
        while True:
            lost = asyncio.Event()
            try:
                async with self._leases.kept(self._name, self._owner, self._ttl, lost=lost.set):
                    self._set(leads=True)
                    try:
                        await lost.wait()
                    finally:
                        self._set(leads=False)
                say = logger.warning
            except LeaseTakenError:
                say = logger.warning
            except EventStoreError as error:
                say("nobody can be made %s for now: %s", self._title, error)
                say = logger.debug  # once for each time that it is away
            await asyncio.sleep(min(_TRY_SECONDS, self._ttl / 3))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Leading ends with it; a failure is told at once, and raised when the context is left."""
        self._set(leads=False)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("this copy cannot become %s any more", self._title, exc_info=failure)

    def _set(self, *, leads: bool) -> None:
        if leads == self.leads:
            return
        logger.info("this copy %s %s", "is now" if leads else "is no longer", self._title)
        now, before = (self._leading, self._following) if leads else (self._following, self._leading)
        before.clear()
        now.set()
