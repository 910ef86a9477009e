"""What a retention waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventsourcing.codec import EventCodec
from eventsourcing.errors import ProjectionStoppedError
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.retention import RetentionQueries


class Gate:
    """A projection that has come up to a commit position."""

    def __init__(self, reached: int = 0, error: Exception | None = None) -> None:
        self.reached = reached
        self.error = error
        self._moved = asyncio.Event()

    def reach(self, position: int) -> None:
        self.reached = position
        self._moved.set()

    async def wait_for(self, commit_position: int, timeout: float) -> None:
        if self.error is not None:
            raise self.error
        async with asyncio.timeout(timeout):
            while self.reached < commit_position:
                self._moved.clear()
                await self._moved.wait()


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[ReadModels]:
    opened = await ReadModels.open(tmp_path / "read.db", EventCodec(DOMAIN_EVENTS))
    yield opened
    await opened.close()


async def test_the_analytics_files_are_waited_for(models: ReadModels) -> None:
    analytics = Gate()
    view = RetentionQueries(models, Gate(7), analytics)
    waiting = asyncio.create_task(view.until_removed(7))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    analytics.reach(7)
    await waiting


@pytest.mark.parametrize("analytics", [Gate(), Gate(error=ProjectionStoppedError("it stopped"))])
async def test_not_for_ever_and_not_in_vain(
    models: ReadModels, analytics: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    await RetentionQueries(models, Gate(7), analytics, analytics_patience=0.05).until_removed(7)
    assert "the analytics files of what expired are still to go" in caplog.text


async def test_without_analytics_files_rows_are_enough(models: ReadModels) -> None:
    await RetentionQueries(models, Gate(7)).until_removed(7)
