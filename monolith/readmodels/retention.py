"""What a retention asks the read models: where old segments are, and whether the rows of expired ones are gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import apsw
import msgspec

from eventsourcing.errors import ProjectionStoppedError
from monolith.application.ports import ReadModelGate
from monolith.application.retention import Candidate
from monolith.readmodels.cleaning import count_doomed

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 600.0
_ANALYTICS_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_CANDIDATES: Final = (
    "SELECT video_id, video_name, json_group_array(segment) FROM segments JOIN videos USING (video_no)"
    " LEFT JOIN segment_sums USING (video_no, segment)"
    " WHERE expired_at IS NULL AND coalesce(newest_at, submitted_at) < ? GROUP BY video_no ORDER BY video_no"
)


class Reader(Protocol):
    """What is needed of the read models."""

    async def read(self, work: Callable[[apsw.Connection], T]) -> T: ...


class RetentionQueries:
    """The `RetentionView` port over the read models."""

    def __init__(
        self,
        read_models: Reader,
        gate: ReadModelGate,
        analytics: ReadModelGate | None = None,
        *,
        patience: float = _PATIENCE_SECONDS,
        analytics_patience: float = _ANALYTICS_SECONDS,
    ) -> None:
        """`analytics`: of the analytics files, None where nobody keeps them up to date. `patience`: how many seconds
        the removal of rows may take; `analytics_patience`: for how many the files are waited for."""
        self._read_models = read_models
        self._gate = gate
        self._analytics = analytics
        self._patience = patience
        self._analytics_patience = analytics_patience

    async def segments_before(self, newest_at: float) -> list[Candidate]:
        rows = await self._read_models.read(lambda c: _candidates(c, newest_at))
        return [
            Candidate(video_id, name, msgspec.json.decode(segments, type=list[int]))
            for video_id, name, segments in rows
        ]

    async def until_removed(self, commit_position: int) -> None:
        """Raises TimeoutError."""
        await self._gate.wait_for(commit_position, self._patience)
        deadline = time.monotonic() + self._patience
        while await self._read_models.read(count_doomed):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    "the rows of expired segments are still being removed; that goes on by itself"
                )
            await asyncio.sleep(_POLL_SECONDS)
        if self._analytics is not None:
            await self._until_files_removed(self._analytics, commit_position)

    async def _until_files_removed(self, analytics: ReadModelGate, commit_position: int) -> None:
        """Their projection may have far more to catch up with: then they go later, by themselves."""
        try:
            await analytics.wait_for(commit_position, self._analytics_patience)
        except (TimeoutError, ProjectionStoppedError) as error:
            logger.warning(
                "the analytics files of what expired are still to go: %s", error or type(error).__name__
            )


def _candidates(connection: apsw.Connection, newest_at: float) -> list[Any]:
    return connection.execute(_CANDIDATES, (newest_at,)).fetchall()
