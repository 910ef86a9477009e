"""Waiting for processes to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path


async def wait_until_gone(pids: Iterable[int], seconds: float = 60.0) -> None:
    """Raises TimeoutError when one of the processes is still at work after `seconds` (zombies are not)."""
    async with asyncio.timeout(seconds):
        while any(_alive(pid) for pid in pids):
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    """The first thread of a killed process is a zombie at once, the process when its other threads have ended too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return False
    return threads > 1 or status.rpartition(")")[2].split()[0] not in {"Z", "X"}
