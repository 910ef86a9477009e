"""The protocol server as a process of its own that can be killed; what it was told stays in a journal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers.kurrentdb.serving import uri_of


class KurrentProcess:
    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def uri(self) -> str:
        return uri_of(self._port)

    async def start(self) -> None:
        """On the same port as before."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.peers.kurrentdb", "--port", str(self._port), "--journal", str(self._journal),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            self._port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def scavenge(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGUSR1)


@asynccontextmanager
async def kurrent_process(folder: Path) -> AsyncIterator[KurrentProcess]:
    server = KurrentProcess(folder / "journal")
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
