"""Pools of scripted workers for tests: real processes, short waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from monolith.domain.detection import ObjectDetection
from monolith.inference.messages import FrameRef, FrameResult
from monolith.inference.pool import WorkerPool
from monolith.inference.service import InferenceService, ServiceLimits
from monolith.inference.shared_memory import FrameSlots
from monolith.inference.supervisor import PoolLimits, WorkerLaunch
from monolith.inference.worker import WorkerConfig
from tests.workers import scripted

SLOTS: Final = 256
LIMITS: Final = PoolLimits(
    start_timeout=60,
    batch_timeout=60,
    stop_timeout=10,
    backoff_first=0.05,
    backoff_max=0.2,
)
DEADLINE: Final = 60.0


class Bench(msgspec.Struct):
    """Frame slots and what is made from them. Frame `n` lies in slot `n` and is answered with `n`."""

    slots: FrameSlots

    def frame(self, number: int, action: int = scripted.ANSWER, deaths: int = 0) -> FrameRef:
        self.slots.view(number, 1, 1)[0, 0] = action, number % 256, deaths
        return FrameRef(number, 1, 1)

    def held(self, number: int) -> FrameRef:
        """One that is not judged before it is let go."""
        return self.frame(number, scripted.HELD, 1)

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self.slots.view(number, 1, 1)[0, 0, 2] = 0

    def launch(self, *models: str, module: str = "tests.workers.scripted") -> WorkerLaunch:
        return WorkerLaunch(
            config=WorkerConfig(models=models or ("plain",)),
            slots_fd=self.slots.fd,
            slot_count=self.slots.count,
            slot_bytes=self.slots.slot_bytes,
            module=module,
        )

    @asynccontextmanager
    async def pool(
        self, *models: str, workers: int = 1, limits: PoolLimits = LIMITS
    ) -> AsyncIterator[WorkerPool]:
        """Started; all its workers are ready."""
        pool = WorkerPool(self.launch(*models), workers=workers, limits=limits)
        await pool.start()
        try:
            await until(lambda: pool.ready_count == workers)
            yield pool
        finally:
            await pool.close()

    @asynccontextmanager
    async def service(
        self,
        *models: str,
        workers: int = 1,
        limits: ServiceLimits | None = None,
        pool_limits: PoolLimits = LIMITS,
    ) -> AsyncIterator[InferenceService]:
        models = models or ("plain",)
        pool = WorkerPool(self.launch(*models), workers=workers, limits=pool_limits)
        service = InferenceService(pool, models, limits=limits)
        await service.start()
        try:
            await until(lambda: pool.ready_count == workers)
            yield service
        finally:
            await service.close()


async def until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError when `condition` does not come true."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def process_state(pid: int) -> str | None:
    """The letter of /proc (`T` stopped, `Z` dead and not yet reaped …), None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def ended(pid: int) -> bool:
    return process_state(pid) in (None, "Z")


def number_of(result: FrameResult) -> int:
    """The frame that a scripted model judged."""
    (detection,) = result.detections
    assert isinstance(detection, ObjectDetection)
    return detection.class_id


def pids(pool: WorkerPool) -> list[int]:
    return [state.pid for state in pool.states() if state.pid is not None]
