"""A process with a pool of two workers, for tests that kill it: prints their pids, then waits for its end.

`python -m tests.workers.parent busy` has them hang; `idle` leaves them alone; `working` gives each a frame, waits for
SIGTERM, prints the numbers of the frames judged and the restarts, and ends in order.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from monolith.inference.pool import WorkerPool
from monolith.inference.shared_memory import FrameSlots
from tests.workers import scripted
from tests.workers.harness import DEADLINE, Bench, number_of, pids


async def run(status: str) -> None:
    bench = Bench(FrameSlots.create(4, 64))
    async with bench.pool("plain", "slow:1", workers=2) as pool:
        if status == "busy":
            for number in range(2):
                await pool.submit("plain", [bench.frame(number, scripted.HANG)])
        if status == "working":
            await work(bench, pool)
        else:
            print(*pids(pool), flush=True)
            await asyncio.sleep(3600)


async def work(bench: Bench, pool: WorkerPool) -> None:
    signalled = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signalled.set)
    answers = [await pool.submit("slow:1", [bench.frame(number)]) for number in range(2)]
    print(*pids(pool), flush=True)
    async with asyncio.timeout(DEADLINE):
        await signalled.wait()
    judged = [number_of(result) for answer in answers for result in await answer]
    print(*judged, *(state.restarts for state in pool.states()), flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
