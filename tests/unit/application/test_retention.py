"""Retention over events, files and read models that are real, and a process that may end at any write."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.application import expiring
from monolith.application.retention_report import RetentionReport
from tests.histories import Step, histories
from tests.readmodel_rows import Rows
from tests.unit.application.retention_world import World
from tests.unit.application.scripted import Crash

_POSITIONS = {"commit_position", "submitted_position"}


def without_positions(found: Rows) -> Rows:
    """An interruption may change when a purge is recorded, and with it positions of later events."""
    kept: Rows = {}
    for table, (columns, *body) in found.items():
        places = [i for i, column in enumerate(columns) if column not in _POSITIONS]
        kept[table] = sorted((tuple(row[i] for i in places) for row in body), key=repr)
    return kept


def columns(found: Rows, table: str, *names: str) -> list[tuple[object, ...]]:
    head, *body = found[table]
    places = [head.index(name) for name in names]
    return sorted((tuple(row[i] for i in places) for row in body), key=repr)


def totals(found: Rows) -> list[list[tuple[object, ...]]]:
    """The sums that users see: retention changes none."""
    return [
        columns(found, "videos", "video_id", "frames_stored", "decode_nanoseconds", "resize_nanoseconds",
                "encode_nanoseconds", "status", "frames_total"),
        columns(found, "runs", "run_id", "frames_analyzed", "frames_dropped", "greatest_frame", "coverage", "status"),
        columns(found, "run_models", "run_no", "model_no", "identity", "frames", "nanoseconds"),
    ]  # fmt: skip


async def without_order(world: World) -> dict[str, list[str]]:
    """What the streams hold: whether a purge is recorded before the next expiry depends on the interruptions."""
    return {stream: sorted(types) for stream, types in (await world.streams()).items()}


async def undisturbed(world: World, history: Sequence[tuple[float, Step]], days: float) -> RetentionReport:
    await world.happen(history)
    world.days_later(30)
    before = await world.rows()
    assert before == await world.rebuilt_rows()
    report = await world.let_go(days)
    after = await world.rows()
    assert after == await world.rebuilt_rows()
    assert report.state == "done"
    assert report.purged == report.segments
    assert totals(after) == totals(before)
    return report


@settings(max_examples=25, deadline=None)
@given(history=histories(), days=st.sampled_from((0.5, 2.0, 30.0)), data=st.data())
def test_a_retention_that_is_killed_and_run_again_ends_like_an_undisturbed_one(
    history: list[tuple[float, Step]], days: float, data: st.DataObject
) -> None:
    async def run(folder: Path) -> None:
        whole, broken = World(folder / "whole"), World(folder / "broken")
        await undisturbed(whole, history, days)
        await broken.happen(history)
        broken.days_later(30)
        seen = data.draw(st.sampled_from(range(9)), label="eighths of the events that the lagging projection has seen")
        await broken.lag(len(history) * seen // 8)
        await crashing(broken, days, data)
        assert (await broken.let_go(days)).state == "done"
        assert (await broken.let_go(days)).segments == 0
        live = await broken.rows()
        assert live == await broken.rebuilt_rows()
        assert live == await broken.rows("lagging.db")
        assert live == await broken.rows("fresh.db")
        assert without_positions(live) == without_positions(await whole.rows())
        assert await without_order(broken) == await without_order(whole)
        assert broken.files() == whole.files()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(expiring, "SEGMENTS_AN_EVENT", 2)
        asyncio.run(run(Path(folder)))


async def crashing(world: World, days: float, data: st.DataObject) -> None:
    """Kill it at some writes; the read models agree with rebuilt ones in between."""
    for _ in range(data.draw(st.integers(0, 3), label="crashes")):
        world.fuse.after = data.draw(st.booleans(), label="after the write")
        with contextlib.suppress(Crash):
            await world.let_go(days, crash_at=data.draw(st.integers(0, 12), label="writes before"))
        if data.draw(st.booleans(), label="compare in between"):
            assert await world.rows() == await world.rebuilt_rows()
