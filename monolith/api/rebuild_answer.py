"""The body of answers about rebuilds."""

from __future__ import annotations

import msgspec

from monolith.api.answers import iso_time
from monolith.readmodels.rebuilds import JobState, PartState, RebuildStatus


class RebuiltAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One projection of a rebuild. `events_total`: events there, as far as is known; while it runs it is a bound that
    comes down to `events_done`."""

    projection: str
    state: PartState
    events_done: int
    events_total: int | None


class RebuildAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The rebuild that runs, else the last one since the program was started; `idle`: there was none.

    `progress`: 0–1; `started`, `ended`: ISO 8601, UTC; `error`: why it failed, then what was there before is in use.
    `rebuildable`: the names that there are.
    """

    state: JobState
    progress: float
    projections: tuple[RebuiltAnswer, ...]
    started: str | None
    ended: str | None
    error: str | None
    rebuildable: tuple[str, ...]


def rebuild_answer(status: RebuildStatus, rebuildable: tuple[str, ...]) -> RebuildAnswer:
    return RebuildAnswer(
        state=status.state,
        progress=round(status.progress, 4),
        projections=tuple(
            RebuiltAnswer(
                projection=part.projection,
                state=part.state,
                events_done=part.events_done,
                events_total=part.events_total,
            )
            for part in status.projections
        ),
        started=None if status.started_at is None else iso_time(status.started_at),
        ended=None if status.ended_at is None else iso_time(status.ended_at),
        error=status.error,
        rebuildable=rebuildable,
    )
