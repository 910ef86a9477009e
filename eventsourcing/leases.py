"""Leadership for a while: a lease is a stream `lease-{name}`, and who appends to it first wins.

Rules:
- The last event of the stream says who holds the lease and until when; nothing else is kept anywhere.
- Every step expects the version it has seen: of two who try at once, one fails.
- The fence token is the stream version after the holder's last step. It only grows, across holders too: what
  a former holder writes under its token can be told from what its successor writes.
- Owners are named uniquely (a UUID for each process start): an owner may take its own lease again.
- Clocks of owners are compared; they must differ by much less than the time to live.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.errors import (
    LeaseLostError,
    LeaseTakenError,
    StoreUnavailableError,
    WrongExpectedVersionError,
)
from eventsourcing.store import EventStore
from eventsourcing.versions import NO_STREAM


class LeaseHeld(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` holds the lease until `expires_at` (Unix seconds): acquired, or renewed."""

    owner: str
    expires_at: float


class LeaseReleased(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` gave the lease back before its time."""

    owner: str


LEASE_PREFIX: Final = "lease-"

logger = logging.getLogger(__name__)
_CODEC: Final = EventCodec([LeaseHeld, LeaseReleased])


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as its holder knows it. `token` fences; `expires_at` is in Unix seconds."""

    name: str
    owner: str
    token: int
    ttl: float
    expires_at: float


class Leases:
    """Takes, renews and releases leases. `clock` gives Unix seconds."""

    def __init__(self, store: EventStore, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def acquire(self, name: str, owner: str, ttl: float) -> Lease | None:
        """The lease for `ttl` seconds; None while another holds it, or when another was quicker."""
        last = await self._store.read_stream(_stream(name), backwards=True, limit=1)
        if last:
            held = _CODEC.decode(last[0])
            if isinstance(held, LeaseHeld) and held.owner != owner and held.expires_at > self._clock():
                return None
        version = last[0].stream_position if last else None
        try:
            return await self._hold(name, owner, ttl, version)
        except WrongExpectedVersionError:
            return None

    async def renew(self, lease: Lease) -> Lease:
        """The lease for another `ttl` from now; also a late one, if nobody took it. Raises LeaseLostError."""
        try:
            return await self._hold(lease.name, lease.owner, lease.ttl, lease.token)
        except WrongExpectedVersionError as error:
            raise _lost(lease) from error

    async def release(self, lease: Lease) -> None:
        """Give it back, so that others need not wait. Raises LeaseLostError where it was lost before."""
        event = _CODEC.encode(LeaseReleased(owner=lease.owner))
        try:
            await self._store.append(_stream(lease.name), [event], expected_version=lease.token)
        except WrongExpectedVersionError as error:
            raise _lost(lease) from error

    async def check(self, lease: Lease) -> None:
        """Raises LeaseLostError where another has taken the lease, or its time is up. Before a side effect."""
        version = await self._store.stream_version(_stream(lease.name))
        if version != lease.token or self._clock() >= lease.expires_at:
            raise _lost(lease)

    async def holder(self, name: str) -> str | None:
        """Who holds the lease now; None: nobody."""
        last = await self._store.read_stream(_stream(name), backwards=True, limit=1)
        held = _CODEC.decode(last[0]) if last else None
        return held.owner if isinstance(held, LeaseHeld) and held.expires_at > self._clock() else None

    @asynccontextmanager
    async def kept(
        self, name: str, owner: str, ttl: float, *, lost: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Hold the lease within the context, for as long as it takes. `lost` is called, once, when it cannot be held
        any more: what is done under it must end then, before its time is up and another takes it.

        Raises LeaseTakenError where another holds it, StoreUnavailableError.
        """
        lease = await self._acquire_in_time(name, owner, ttl)
        keeper = _Keeper(self, lease, self._clock, lost)
        keeping = asyncio.create_task(keeper.keep(), name=f"lease {name}")
        keeping.add_done_callback(_tell_failure)
        try:
            yield
        finally:
            keeper.leaving = True
            keeping.cancel()
            await asyncio.wait([keeping])
            await keeper.give_back()

    async def _acquire_in_time(self, name: str, owner: str, ttl: float) -> Lease:
        """With time enough left to renew it. Where the store answers too late it may be the owner's all the same, but
        nothing is begun under it."""
        try:
            async with asyncio.timeout(ttl / 3):
                lease = await self.acquire(name, owner, ttl)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"the store did not grant lease {name!r} within {ttl / 3:g} s"
            ) from error
        if lease is None:
            raise LeaseTakenError(f"another holds lease {name!r}")
        return lease

    async def _hold(self, name: str, owner: str, ttl: float, version: int | None) -> Lease:
        expires_at = self._clock() + ttl
        event = _CODEC.encode(LeaseHeld(owner=owner, expires_at=expires_at))
        expected = NO_STREAM if version is None else version
        appended = await self._store.append(_stream(name), [event], expected_version=expected)
        return Lease(name=name, owner=owner, token=appended.stream_position, ttl=ttl, expires_at=expires_at)


class _Keeper:
    """Renews a lease three times in its time to live, and gives it up when a third of that is left. `leaving`: its
    holder has no more use for it."""

    def __init__(
        self, leases: Leases, lease: Lease, clock: Callable[[], float], lost: Callable[[], None]
    ) -> None:
        self._leases = leases
        self._lease = lease
        self._clock = clock
        self._lost = lost
        self.leaving = False

    async def keep(self) -> None:
        """Until it cannot be held any more, for whatever reason; then that is told."""
        try:
            await self._renew()
        finally:
            if not self.leaving:
                self._lost()

    async def _renew(self) -> None:
        third = self._lease.ttl / 3
        pause = third
        while (left := self._lease.expires_at - third - self._clock()) > 0:
            await asyncio.sleep(min(pause, left))
            try:
                async with asyncio.timeout(min(third, left)):
                    self._lease = await self._leases.renew(self._lease)
                pause = third
            except (StoreUnavailableError, TimeoutError) as error:
                reason = str(error) or "no answer from the store in time"
                logger.warning("lease %s could not be renewed: %s", self._lease.name, reason)
                pause = third / 2
            except LeaseLostError as error:
                logger.warning("%s", error)
                return

    async def give_back(self) -> None:
        """A renewal that was cut off may have happened: then the lease ends with its time."""
        with contextlib.suppress(LeaseLostError, StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(self._lease.ttl / 3):
                await self._leases.release(self._lease)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a lease is not kept any more", exc_info=error)


def _stream(name: str) -> str:
    return f"{LEASE_PREFIX}{name}"


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"{lease.owner} no longer holds lease {lease.name!r} (token {lease.token})")
