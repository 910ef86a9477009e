"""Wires what several copies of the program on one event store owe each other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from uuid import uuid4

from eventsourcing.leases import Leases
from eventsourcing.store import EventStore
from monolith.application.leadership import Leadership, LeasedLeadership, SoleLeadership
from monolith.application.placement import Placement, SharedPlacement, SolePlacement
from monolith.application.publish_claims import LeasedClaims, PublishClaims, SoleClaims
from monolith.application.segment_claims import copy_lease
from monolith.settings import Settings

PROCESS_MANAGER: Final = "process-manager"


class Sharing(NamedTuple):
    """`owner`: this copy's name, another at each start; `alive`: whether the others take it for one that lives;
    `leases`: None where there are no other copies."""

    owner: str
    leadership: Leadership
    alive: Leadership
    claims: PublishClaims
    leases: Leases | None

    def placement(self, has_publisher: Callable[[str], bool], *, hands_out: bool) -> Placement:
        if self.leases is None:
            return SolePlacement()
        return SharedPlacement(self.leases, self.owner, self.leadership, has_publisher, hands_out=hands_out)


@asynccontextmanager
async def sharing_of(settings: Settings, store: EventStore) -> AsyncIterator[Sharing]:
    """Among the copies that share `store`, within the context; alone, where it is a file of this program's own.

    A copy that the store is away from for long is taken for dead by the others: it gives up what it holds, and takes
    nothing until it can be seen to live again.
    """
    owner = f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
    if not settings.kurrentdb_uri.get_secret_value():
        yield Sharing(owner, SoleLeadership(), SoleLeadership(), SoleClaims(), None)
        return
    leases = Leases(store, clock=time.time)
    async with (
        LeasedLeadership(leases, copy_lease(owner), owner, title="one of the copies") as alive,
        LeasedLeadership(leases, PROCESS_MANAGER, owner, title="the leader") as leadership,
    ):
        yield Sharing(owner, leadership, alive, LeasedClaims(leases, owner), leases)
