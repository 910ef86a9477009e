"""Whether the program can take and analyse videos, part by part; else why not, in words for users."""

from __future__ import annotations

import asyncio
from typing import Final

from eventsourcing.projection import ProjectionRunner, RunnerState
from monolith.api.services import ReadinessCheck
from monolith.application.errors import EnvironmentFailure
from monolith.inference.service import InferenceService
from monolith.storage import FileStorage

_TROUBLE: Final = {
    RunnerState.NEW: "the read models have not been started",
    RunnerState.RETRYING: "the read models are not kept up to date, it is tried again",
    RunnerState.FAILED: "the read models are not kept up to date any more",
    RunnerState.STOPPED: "the read models are not kept up to date any more",
}


def readiness_checks(
    service: InferenceService, projection: ProjectionRunner, storage: FileStorage
) -> dict[str, ReadinessCheck]:
    """Part → check."""

    async def inference() -> str | None:
        return service.reason

    async def read_models() -> str | None:
        return projection_trouble(projection)

    async def disk() -> str | None:
        try:
            await asyncio.to_thread(storage.require_room)
        except EnvironmentFailure as error:
            return str(error)
        return None

    return {"inference": inference, "read models": read_models, "disk": disk}


def projection_trouble(runner: ProjectionRunner) -> str | None:
    """Why answers grow old; None while they are kept up to date, also while it catches up."""
    trouble = _TROUBLE.get(runner.state)
    if trouble is None or runner.last_error is None:
        return trouble
    return f"{trouble}: {type(runner.last_error).__name__}: {runner.last_error}"
