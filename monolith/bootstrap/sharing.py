"""Wires what several copies of the program on one event store owe each other."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from uuid import uuid4

from eventsourcing.leases import Leases
from eventsourcing.store import EventStore
from monolith.application.leadership import LEASE_SECONDS, Leadership, LeasedLeadership, SoleLeadership
from monolith.application.placement import Placement, SharedPlacement, SolePlacement
from monolith.application.publish_claims import LeasedClaims, PublishClaims, SoleClaims
from monolith.settings import Settings

PROCESS_MANAGER: Final = "process-manager"


class Sharing(NamedTuple):
    """`owner`: this copy's name, another at each start; `leases`: None where there are no other copies."""

    owner: str
    leadership: Leadership
    claims: PublishClaims
    leases: Leases | None

    def placement(self, has_publisher: Callable[[str], bool], *, hands_out: bool) -> Placement:
        if self.leases is None:
            return SolePlacement()
        return SharedPlacement(self.leases, self.owner, self.leadership, has_publisher, hands_out=hands_out)


@asynccontextmanager
async def sharing_of(settings: Settings, store: EventStore) -> AsyncIterator[Sharing]:
    """Among the copies that share `store`, within the context; alone, where it is a file of this program's own.

    Raises StoreUnavailableError; inside, it ends with an error when this copy is taken for dead by the others.
    """
    owner = f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
    if not settings.kurrentdb_uri.get_secret_value():
        yield Sharing(owner, SoleLeadership(), SoleClaims(), None)
        return
    leases = Leases(store, clock=time.time)
    lost = asyncio.Event()
    async with (
        leases.kept(copy_lease(owner), owner, LEASE_SECONDS, lost=lost.set),
        LeasedLeadership(leases, PROCESS_MANAGER, owner) as leadership,
    ):
        yield Sharing(owner, leadership, LeasedClaims(leases, owner), leases)


def copy_lease(owner: str) -> str:
    """Held by a copy of the program while it lives."""
    return f"copy-{owner}"
