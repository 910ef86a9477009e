"""Which rebuilds there are, one job at a time, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
from prometheus_client import CollectorRegistry

from eventsourcing.errors import StoreUnavailableError
from monolith.domain.errors import InvalidRequestError, NotPossibleError
from monolith.metrics import ReadingsCollector, rebuild_readings
from monolith.readmodels.rebuilding import Progress
from monolith.readmodels.rebuilds import Rebuilds, RebuildStatus


class Counting:
    """Something of `total` events that is rebuilt as far as it is let. `error`: what happens at the end."""

    def __init__(self, name: str, total: int = 10, error: BaseException | None = None) -> None:
        self.name = name
        self.total = total
        self.error = error
        self.half = asyncio.Event()
        self.may_end = asyncio.Event()

    async def rebuild(self, progress: Progress) -> int:
        progress(0, None)
        progress(self.total // 2, self.total)
        self.half.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        progress(self.total, self.total)
        return self.total


@pytest.fixture
async def rows() -> AsyncIterator[Counting]:
    yield Counting("rows")


@pytest.fixture
async def files() -> AsyncIterator[Counting]:
    yield Counting("files", total=20)


@pytest.fixture
async def rebuilds(rows: Counting, files: Counting) -> AsyncIterator[Rebuilds]:
    ticks = count(1.0)
    made = Rebuilds([rows, files], clock=lambda: next(ticks))
    yield made
    await made.close()


def parts(status: RebuildStatus) -> list[tuple[str, str, int, int | None]]:
    return [(part.projection, part.state, part.events_done, part.events_total) for part in status.projections]


async def test_all_are_rebuilt_one_after_another(rebuilds: Rebuilds, rows: Counting, files: Counting) -> None:
    assert (rebuilds.status.state, rebuilds.names) == ("idle", ("rows", "files"))
    rebuilds.start()
    await rows.half.wait()
    assert parts(rebuilds.status) == [("rows", "running", 5, 10), ("files", "waiting", 0, None)]
    assert (rebuilds.running, rebuilds.status.progress) == (True, 0.25)
    rows.may_end.set()
    await files.half.wait()
    assert parts(rebuilds.status) == [("rows", "completed", 10, 10), ("files", "running", 10, 20)]
    assert rebuilds.status.progress == 0.75
    files.may_end.set()
    status = await rebuilds.wait()
    assert (status.state, status.progress, status.error) == ("completed", 1.0, None)
    assert (status.started_at or 0) < (status.ended_at or 0)


async def test_one_can_be_chosen(rebuilds: Rebuilds, files: Counting) -> None:
    files.may_end.set()
    rebuilds.start(["files", "files"])
    assert parts(await rebuilds.wait()) == [("files", "completed", 20, 20)]


async def test_a_name_that_there_is_not(rebuilds: Rebuilds) -> None:
    words = "there is no projection 'row'; those that can be rebuilt are: rows, files"
    with pytest.raises(InvalidRequestError, match=words) as raised:
        rebuilds.start(["rows", "row"])
    assert raised.value.field == "projection"
    assert rebuilds.status.state == "idle"


async def test_one_job_at_a_time(rebuilds: Rebuilds, rows: Counting, files: Counting) -> None:
    rebuilds.start(["rows"])
    with pytest.raises(NotPossibleError, match="a rebuild of rows is running"):
        rebuilds.start(["files"])
    rows.may_end.set()
    await rebuilds.wait()
    files.may_end.set()
    rebuilds.start(["files"])
    assert (await rebuilds.wait()).state == "completed"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreUnavailableError("the disk is full"), "the disk is full"),
        (KeyError("ours"), "the rebuild failed (KeyError); the server's log says why"),
    ],
)
async def test_a_failure_is_told_and_ends_the_job(
    rebuilds: Rebuilds, rows: Counting, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    rows.error = error
    rows.may_end.set()
    rebuilds.start()
    status = await rebuilds.wait()
    assert (status.state, status.error) == ("failed", words)
    assert [part.state for part in status.projections] == ["failed", "waiting"]
    assert "the rebuild failed" in caplog.text
    rows.error = None
    rebuilds.start(["rows"])
    assert (await rebuilds.wait()).state == "completed"


@pytest.mark.parametrize("at_once", [True, False])
async def test_closing_interrupts(rebuilds: Rebuilds, rows: Counting, at_once: bool) -> None:
    rebuilds.start()
    if not at_once:
        await rows.half.wait()
    await rebuilds.close()
    assert (rebuilds.status.state, rebuilds.status.error) == ("failed", "interrupted")
    await rebuilds.close()


async def test_its_metrics(rebuilds: Rebuilds, rows: Counting) -> None:
    registry = CollectorRegistry()
    ReadingsCollector(registry, rebuild_readings(rebuilds))

    def values() -> list[float | None]:
        names = ("running", "progress", "events_done", "failed")
        return [registry.get_sample_value(f"video_analysis_rebuild_{name}") for name in names]

    assert values() == [0, 0, 0, 0]
    rebuilds.start(["rows"])
    await rows.half.wait()
    assert values() == [1, 0.5, 5, 0]
    rows.error = OSError("gone")
    rows.may_end.set()
    await rebuilds.wait()
    assert values() == [0, 0.5, 5, 1]
