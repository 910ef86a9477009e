"""What tests of several copies share: one store with leases, and a copy that may be taken for dead."""

from __future__ import annotations

import asyncio
import time

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.leases import Leases


class Shared:
    """One store as its copies see it. `leases` of a copy whose time is right; `later` of one that knows that all leases
    of now have run out."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.leases = Leases(self.store, clock=time.time)
        self.later = Leases(self.store, clock=lambda: time.time() + 1_000)

    async def take(self, name: str, owner: str = "other") -> None:
        """Another copy takes the lease, whoever has it."""
        assert await self.later.acquire(name, owner, 10_000) is not None


class Leading:
    """Leadership that a test gives and takes."""

    def __init__(self, *, leads: bool) -> None:
        self._changed = asyncio.Condition()
        self.leads = leads

    async def wait_for(self, leads: bool) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.leads == leads)

    async def set(self, *, leads: bool) -> None:
        async with self._changed:
            self.leads = leads
            self._changed.notify_all()
