"""The rows of the read models while events are projected into them: one connection, one transaction."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from monolith.readmodels.expiries import Expiries
from monolith.readmodels.sums import Sums


class RunRow(msgspec.Struct, frozen=True):
    run_no: int
    video_no: int
    models: int
    """How many."""


class Rows:
    """What projections of single events share. `recorded_at`: of the event that is projected, Unix seconds."""

    def __init__(self, connection: apsw.Connection, expiries: Expiries) -> None:
        self.doomed = False
        """Whether rows were left to the cleaner."""
        self.connection = connection
        self.sums = Sums(connection)
        self.recorded_at = 0.0
        self._expiries = expiries
        self._expired: dict[tuple[str, int], bool] = {}
        self._runs: dict[str, RunRow | None] = {}
        self._videos: dict[str, int | None] = {}

    def one(self, sql: str, values: tuple[apsw.SQLiteValue, ...]) -> Any:
        """The only value, or the only row, that `sql` finds; None where it finds nothing."""
        return self.connection.execute(sql, values).get

    def run(self, run_id: str) -> RunRow | None:
        """None where there is no such run (any more)."""
        if run_id not in self._runs:
            row = self.one(
                "SELECT run_no, video_no, json_array_length(models) FROM runs WHERE run_id = ?", (run_id,)
            )
            self._runs[run_id] = None if row is None else RunRow(*row)
        return self._runs[run_id]

    def video(self, video_id: str) -> int | None:
        """Its `video_no`; None where there is no such video (any more)."""
        if video_id not in self._videos:
            self._videos[video_id] = self.one("SELECT video_no FROM videos WHERE video_id = ?", (video_id,))
        return self._videos[video_id]

    def all_runs(self, video_no: int) -> dict[str, int]:
        """run_id → run_no."""
        sql = "SELECT run_id, run_no FROM runs WHERE video_no = ?"
        rows: list[Any] = self.connection.execute(sql, (video_no,)).fetchall()
        return dict(rows)

    def has_expired(self, video_id: str, segment: int) -> bool:
        known = self._expired.get((video_id, segment))
        if known is None:
            found = self.one(
                "SELECT expired_at FROM segments WHERE video_no = ? AND segment = ?",
                (self.video(video_id), segment),
            )
            known = found is not None or self._expiries.includes(video_id, segment)
            self._expired[video_id, segment] = known
        return known

    def show_status(self, video_no: int | None, position: int) -> None:
        self.connection.execute(
            "UPDATE videos SET commit_position = ?2,"
            " status = coalesce((SELECT status FROM runs WHERE run_no = videos.first_run_no), status)"
            " WHERE video_no = ?1",
            (video_no, position),
        )

    def forget_run(self, run_id: str) -> None:
        """It is not known any more whether there is a row; so with the others."""
        self._runs.pop(run_id, None)

    def forget_video(self, video_id: str) -> None:
        self._videos.pop(video_id, None)

    def forget_expired(self) -> None:
        self._expired.clear()

    def forget_all(self) -> None:
        self._runs.clear()
        self._videos.clear()
        self._expired.clear()


def as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
