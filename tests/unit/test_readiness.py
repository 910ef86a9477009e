"""Whether the program says when it cannot work."""

from __future__ import annotations

from pathlib import Path

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.projection import ProjectionRunner, RunnerState
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readiness import projection_trouble
from monolith.readmodels.queries import ReadModels


async def test_a_projection_that_retries_or_has_stopped_is_trouble(tmp_path: Path) -> None:
    store = MemoryEventStore()
    models = await ReadModels.open(tmp_path / "read.db", EventCodec(DOMAIN_EVENTS))
    runner = ProjectionRunner(store, models.projection)
    assert projection_trouble(runner) == "the read models have not been started"
    async with runner:
        await runner.wait_for(0, 60)
        assert projection_trouble(runner) is None
        runner.state, runner.last_error = RunnerState.RETRYING, StoreUnavailableError("the disk is full")
        assert projection_trouble(runner) == (
            "the read models are not kept up to date, it is tried again: StoreUnavailableError: the disk is full"
        )
        runner.state = RunnerState.LIVE
    assert "any more" in (projection_trouble(runner) or "")
    await models.close()
    await store.close()
