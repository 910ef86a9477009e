"""Results that no analytics file holds (yet), from the read models, as tables like those of the files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import apsw
import msgspec
import polars as pl

from monolith.domain.events import AnalysedFrame
from monolith.domain.models import MODEL_KEYS
from monolith.readmodels.analytics_files import TableBuilder
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.rendering import decode_detections
from monolith.readmodels.results import Source
from monolith.readmodels.schema import KEY_MASK, MODEL_BITS, MODEL_MASK, result_id

FrameRange: TypeAlias = tuple[int, int]
"""First and last frame number, both inclusive."""
InThread: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]

_PAGE: Final = 1000
"""Results that are read and decoded at a time."""
_SPILL_ROWS: Final = 100_000
"""So many lines are held in memory; more go to temporary files."""


class OpenTable(msgspec.Struct, frozen=True):
    """Lines of one range of frames, in order, and the times of the first and the last, in seconds."""

    lines: pl.LazyFrame
    first_time: float | None
    last_time: float | None


class OpenResults:
    """Reads the results of one run's models as they were at a commit position of the read models."""

    def __init__(
        self,
        models: ReadModels,
        in_thread: InThread,
        folder: Path,
        *,
        video_id: str,
        run_id: str,
        source: Source,
        generation: int,
        position: int,
    ) -> None:
        """`folder`: for temporary files, which live as long as the tables are used."""
        self._models = models
        self._in_thread = in_thread
        self._folder = folder
        self._video_id = video_id
        self._run_id = run_id
        self._source = source
        self._generation = generation
        self._position = position
        self._spilled = 0

    async def table(self, frames: FrameRange) -> OpenTable | None:
        """None where there are none."""
        pieces: list[OpenTable] = []
        builder, low = self._builder(), frames[0] << MODEL_BITS
        while rows := await self._page(low, frames[1] << MODEL_BITS | MODEL_MASK):
            await self._in_thread(partial(_collect, builder, rows))
            low = rows[-1][0] + 1
            if builder.rows >= _SPILL_ROWS:
                pieces.append(await self._in_thread(partial(self._spill, builder)))
                builder = self._builder()
        if builder.rows:
            pieces.append(await self._in_thread(partial(_in_memory, builder)))
        return _joined(pieces) if pieces else None

    def _builder(self) -> TableBuilder:
        return TableBuilder(self._video_id, self._run_id, None)

    async def _page(self, low: int, high: int) -> list[Any]:
        base = result_id(self._source.run_no, 0, 0)
        marks = ",".join(map(str, self._source.model_numbers))
        sql = (
            f"SELECT id & {KEY_MASK}, timestamp, started_at, seconds, detections FROM results"  # noqa: S608
            f" WHERE id BETWEEN ? AND ? AND id & {MODEL_MASK} IN ({marks}) AND commit_position <= ?"
            " ORDER BY id LIMIT ?"
        )
        values = (base | low, base | high, self._position, _PAGE)
        return await self._models.read(
            lambda connection: _all(connection, sql, values), generation=self._generation
        )

    def _spill(self, builder: TableBuilder) -> OpenTable:
        piece = _in_memory(builder)
        path = self._folder / f"{self._run_id}-{self._spilled}.parquet"
        self._spilled += 1
        piece.lines.sink_parquet(path, compression="lz4", engine="streaming")
        return msgspec.structs.replace(piece, lines=pl.scan_parquet(path))


def _all(connection: apsw.Connection, sql: str, values: tuple[apsw.SQLiteValue, ...]) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def _collect(builder: TableBuilder, rows: Iterable[tuple[Any, ...]]) -> None:
    for key, timestamp, started_at, seconds, data in rows:
        frame = AnalysedFrame(
            frame_number=key >> MODEL_BITS,
            timestamp=timestamp,
            detections=decode_detections(data),
            started_at=started_at,
            seconds=seconds,
        )
        builder.add(MODEL_KEYS[key & MODEL_MASK], (frame,))


def _in_memory(builder: TableBuilder) -> OpenTable:
    table = builder.table()
    times: Any = table["exact_timestamp"]
    return OpenTable(table.lazy(), times.min(), times.max())


def _joined(pieces: Sequence[OpenTable]) -> OpenTable:
    times = [t for piece in pieces for t in (piece.first_time, piece.last_time) if t is not None]
    return OpenTable(pl.concat([piece.lines for piece in pieces]), min(times), max(times))
