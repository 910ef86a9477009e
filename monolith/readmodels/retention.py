"""What a retention asks the read models: where old segments are, and whether the rows of expired ones are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import apsw
import msgspec

from monolith.application.ports import ReadModelGate
from monolith.application.retention import Candidate
from monolith.readmodels.cleaning import count_doomed

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 600.0
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
        self, read_models: Reader, gate: ReadModelGate, *, patience: float = _PATIENCE_SECONDS
    ) -> None:
        """`patience`: how many seconds the removal of rows may take."""
        self._read_models = read_models
        self._gate = gate
        self._patience = patience

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


def _candidates(connection: apsw.Connection, newest_at: float) -> list[Any]:
    return connection.execute(_CANDIDATES, (newest_at,)).fetchall()
