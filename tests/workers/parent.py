"""A process with a pool of two workers, for tests that kill it: prints their pids, then waits for its end."""

from __future__ import annotations

import asyncio
import sys

from monolith.inference.shared_memory import FrameSlots
from tests.workers import scripted
from tests.workers.harness import Bench, pids


async def run(status: str) -> None:
    bench = Bench(FrameSlots.create(4, 64))
    async with bench.pool(workers=2) as pool:
        if status == "busy":
            for number in range(2):
                await pool.submit("plain", [bench.frame(number, scripted.HANG)])
        print(*pids(pool), flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
