"""Whether the program can take and analyse videos, part by part; else why not, in words for users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.projection import ProjectionRunner, RunnerState
from eventsourcing.store import DurableEventStore
from monolith.api.services import ReadinessCheck
from monolith.disk_watch import DiskWatch
from monolith.inference.service import InferenceService
from monolith.messaging.connection import MessageBroker
from monolith.projection_lag import ProjectionLag, WatchedProjection

LONGEST_LAG: Final = 30.0
"""Seconds that answers may be behind what was stored."""
PATIENCE: Final = 10.0
"""Seconds for which a server of others may be away before this program counts as not ready: one that starts anew, or a
network that blinks, is no reason to send users elsewhere."""
_ASK_SECONDS: Final = 4.0

_TROUBLE: Final = {
    RunnerState.NEW: "the read models have not been started",
    RunnerState.RETRYING: "the read models are not kept up to date, it is tried again",
    RunnerState.FAILED: "the read models are not kept up to date any more",
    RunnerState.STOPPED: "the read models are not kept up to date any more",
}


def readiness_checks(
    store: DurableEventStore,
    service: InferenceService,
    projection: WatchedProjection,
    disk: DiskWatch,
    stopping: asyncio.Event,
    broker: MessageBroker | None = None,
    *,
    shared: bool = False,
) -> dict[str, ReadinessCheck]:
    """Part → check. `broker`: None where the settings name none; `shared`: whether the store is a server's."""

    async def program() -> str | None:
        return "the program is ending" if stopping.is_set() else None

    async def inference() -> str | None:
        return service.reason

    async def read_models() -> str | None:
        return projection_trouble(projection.runner) or lag_trouble(projection.lag)

    async def message_broker() -> str | None:
        return None if broker is None else broker.lasting_trouble(PATIENCE)

    async def event_store() -> str | None:
        return await store_trouble(store)

    return {
        "program": program,
        "event store": Lasting(event_store) if shared else event_store,
        "read models": read_models,
        "inference": inference,
        "disk": disk.check,
        **({"message broker": message_broker} if broker is not None else {}),
    }


class Lasting:
    """A check of something that may be away for a moment: what it finds counts once it has found something for
    `PATIENCE` seconds, each time it was asked."""

    def __init__(self, check: ReadinessCheck, clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._clock = clock
        self._since: float | None = None

    async def __call__(self) -> str | None:
        trouble = await self._found()
        if trouble is None:
            self._since = None
            return None
        now = self._clock()
        if self._since is None:
            self._since = now
        return trouble if now - self._since >= PATIENCE else None

    async def _found(self) -> str | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await self._check()
        except TimeoutError:
            return f"no answer within {_ASK_SECONDS:g} s"


async def store_trouble(store: DurableEventStore) -> str | None:
    """Why nothing can be stored or read; None when it can."""
    if store.waiting_appends >= store.queue_size:
        return f"{store.waiting_appends} appends wait: what keeps the events is too slow, or does not answer"
    try:
        await store.head()
    except StoreUnavailableError as error:
        return str(error)
    return None


def projection_trouble(runner: ProjectionRunner) -> str | None:
    """Why answers grow old; None while they are kept up to date, also while it catches up."""
    trouble = _TROUBLE.get(runner.state)
    if trouble is None or runner.last_error is None:
        return trouble
    return f"{trouble}: {type(runner.last_error).__name__}: {runner.last_error}"


def lag_trouble(lag: ProjectionLag) -> str | None:
    """Why answers are too old; None while they are not."""
    seconds = lag.seconds()
    if seconds <= LONGEST_LAG:
        return None
    return f"the read models are {lag.events()} events behind, for {seconds:.0f} s: answers are that old"
