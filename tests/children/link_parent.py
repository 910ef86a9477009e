"""A parent for the test that kills it: starts children, prints their process ids, waits.

`python -m tests.children.link_parent echo` starts a plain child; `… decoder VIDEO` a decoder in mid-segment, which goes
on when the parent gets SIGTERM: the parent ends then, and prints the number of frames that came after the first.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.messages import FrameReady
from monolith.ingest.sessions import DecodeSession
from monolith.processes import ChildProcess
from tests.integration.decoding import probe, segment_request


async def _echo() -> None:
    child = await ChildProcess.start("child", "tests.children.link_child", ["deaf"])
    await child.send(b"x")
    await child.receive()
    print(child.pid, flush=True)
    await asyncio.sleep(60)


async def _decoder(path: Path) -> None:
    pool = DecoderPool(FrameSlots.create(2, 1 << 20), 2)
    info = await probe(pool, path)
    async with pool.open(segment_request(path, info)) as session:
        await session.lend([0])
        await anext(session)
        signalled = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signalled.set)
        print(*pool.pids, flush=True)
        async with asyncio.timeout(60):
            await signalled.wait()
            print(await _frames_left(session), flush=True)
    await pool.close()


async def _frames_left(session: DecodeSession) -> int:
    frames = 0
    await session.lend([1])
    async for message in session:
        if isinstance(message, FrameReady):
            frames += 1
            await session.lend([message.slot])
    return frames


if __name__ == "__main__":
    asyncio.run(_echo() if sys.argv[1] == "echo" else _decoder(Path(sys.argv[2])))
