"""Rows of deleted videos and of expired segments go in slices: a long video has millions, and whoever projects must not
wait for them.

The projection removes a deleted video's own rows at once, so no answer finds the others any more; it writes down in the
table `doomed` which ones they are: a range of ids (of `frames`, of `results`; of `dropped` as if they were results).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import apsw

from eventsourcing.errors import StoreUnavailableError
from monolith.readmodels.database import Database
from monolith.readmodels.schema import KEY_BITS, MAX_FRAME_NUMBER, MODEL_BITS

_SLICE: Final = 2000
"""Rows in one transaction: some ten milliseconds."""
_RANGES: Final = 50
"""Ranges looked at in one transaction: many hold little."""
_PAUSE_SECONDS: Final = 0.005
_RETRY_SECONDS: Final = 5.0

_NEXT: Final = "SELECT rowid, kind, low, high FROM doomed ORDER BY rowid LIMIT ?"
_DELETE: Final = {
    "frames": "DELETE FROM frames WHERE id IN (SELECT id FROM frames WHERE id BETWEEN ?1 AND ?2 LIMIT ?3)",
    "results": "DELETE FROM results WHERE id IN (SELECT id FROM results WHERE id BETWEEN ?1 AND ?2 LIMIT ?3)",
    "dropped": (
        "DELETE FROM dropped WHERE (run_no, frame_number, model_no) IN"  # noqa: S608
        f" (SELECT run_no, frame_number, model_no FROM dropped WHERE run_no = ?1 >> {KEY_BITS}"
        f" AND frame_number BETWEEN ?1 >> {MODEL_BITS} & {MAX_FRAME_NUMBER}"
        f" AND ?2 >> {MODEL_BITS} & {MAX_FRAME_NUMBER} LIMIT ?3)"
    ),
}

logger = logging.getLogger(__name__)


def doom(connection: apsw.Connection, kind: str, low: int, high: int) -> None:
    """Have the rows of table `kind` from `low` to `high` removed later."""
    connection.execute("INSERT INTO doomed VALUES(?, ?, ?)", (kind, low, high))


def count_doomed(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM doomed").get)


def remove_slice(connection: apsw.Connection) -> bool:
    """Remove some doomed rows; whether there may be more."""
    left = _SLICE
    ranges: list[Any] = connection.execute(_NEXT, (_RANGES,)).fetchall()
    for rowid, kind, low, high in ranges:
        before = connection.total_changes()
        connection.execute(_DELETE[kind], (low, high, left))
        left -= connection.total_changes() - before
        if left == 0:
            return True
        connection.execute("DELETE FROM doomed WHERE rowid = ?", (rowid,))
    return count_doomed(connection) > 0


class Cleaner:
    """A task that removes doomed rows between the projection's transactions. `wake` it when there are some."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._wake.set()  # an earlier process may have left some
        self._task = asyncio.create_task(self._run(), name="cleaner of the read models")

    def wake(self) -> None:
        self._wake.set()

    async def finish(self, pause: float = 0) -> None:
        """Remove all that is doomed now; between slices others write for `pause` seconds at least."""
        left = True
        while left:
            left = await self._database.write(remove_slice)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Idempotent. What is left goes at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.finish(_PAUSE_SECONDS)
            except StoreUnavailableError as error:
                logger.warning("rows of deleted videos cannot be removed now: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake.set()
