"""Whether the program says when it cannot work."""

from __future__ import annotations

from pathlib import Path

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.projection import ProjectionRunner, RunnerState
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readiness import PATIENCE, Lasting, projection_trouble
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


class _Server:
    """One that may be away; and a clock."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.now = 100.0

    async def check(self) -> str | None:
        return self.trouble


async def test_a_server_that_is_away_for_a_moment_is_no_trouble_and_then_it_is() -> None:
    server = _Server()
    lasting = Lasting(server.check, lambda: server.now)
    assert await lasting() is None
    for _ in range(3):  # blinks
        server.trouble = "nobody answers"
        assert await lasting() is None
        server.now += PATIENCE - 1
        assert await lasting() is None
        server.trouble = None
        assert await lasting() is None
    server.trouble = "nobody answers"
    assert await lasting() is None
    server.now += PATIENCE
    assert await lasting() == "nobody answers"
    server.trouble = None
    assert await lasting() is None
