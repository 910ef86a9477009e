"""Which copy of the program holds a segment: as its claims tell, and whether the claimant lives."""

from __future__ import annotations

from typing import Final

from eventsourcing.codec import EventCodec
from eventsourcing.leases import Leases
from eventsourcing.store import EventStore
from monolith.application.ports import Clock
from monolith.domain.events import SegmentClaimed, results_stream
from monolith.domain.jobs import SegmentJob

LONGEST_HOLD: Final = 20 * 60.0
"""Seconds after which a copy gives a segment back that it has not come to the end of: brokers take a delivery for lost
that is not acknowledged for long (RabbitMQ: 30 minutes). What was done is kept."""
_FORGOTTEN: Final = 2 * LONGEST_HOLD
"""No claim is older than that and held."""
_PAGE: Final = 100


class SegmentClaims:
    """Reads what the results streams of segments and the leases of copies say."""

    def __init__(
        self, store: EventStore, codec: EventCodec, leases: Leases, owner: str, clock: Clock
    ) -> None:
        self.owner = owner
        self._store = store
        self._codec = codec
        self._leases = leases
        self._clock = clock

    def now(self) -> float:
        """Unix time in seconds."""
        return self._clock()

    async def last(self, job: SegmentJob) -> SegmentClaimed | None:
        """The newest claim on the segment; None: nobody has begun. Raises EventStoreErrors."""
        stream = results_stream(job.run_id, job.segment)
        before: int | None = None
        while before is None or before >= 0:
            page = await self._store.read_stream(stream, from_position=before, backwards=True, limit=_PAGE)
            for recorded in page:
                if recorded.event_type == SegmentClaimed.__name__:
                    claimed = self._codec.decode(recorded)
                    assert isinstance(claimed, SegmentClaimed)
                    return claimed
            if len(page) < _PAGE:
                break
            before = page[-1].stream_position - 1
        return None

    async def held_elsewhere(self, job: SegmentJob, after: int) -> bool:
        """Whether another copy, which lives, has claimed the segment since attempt `after`, which is over."""
        claim = await self.last(job)
        return claim is not None and claim.owner != self.owner and await self._holds(claim, after)

    async def held(self, job: SegmentJob, after: int) -> tuple[bool, int]:
        """Whether a copy that lives has claimed the segment since attempt `after`; the newest attempt (0: none)."""
        claim = await self.last(job)
        if claim is None:
            return False, 0
        return await self._holds(claim, after), claim.attempt

    async def _holds(self, claim: SegmentClaimed, after: int) -> bool:
        if claim.attempt <= after or claim.claimed_at < self._clock() - _FORGOTTEN:
            return False
        return await self._leases.holder(copy_lease(claim.owner)) == claim.owner


def copy_lease(owner: str) -> str:
    """Held by a copy of the program while it lives."""
    return f"copy-{owner}"
