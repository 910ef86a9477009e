"""Child processes of tests: started, waited for, ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

START_SECONDS = 60.0
_END_SECONDS = 15.0


@contextlib.asynccontextmanager
async def running(
    arguments: Sequence[str | Path], log: Path, *, stdout: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child process, its output in the file `log`; ended by SIGTERM, then SIGKILL."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file if stdout is None else stdout,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await end(process)


def children_of(pid: int) -> dict[int, str]:
    """The child processes of a process that are there now: pid → command line, empty where one has ended just now."""
    found: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            _, parent, *_ = (path / "stat").read_text().rpartition(")")[2].split()
            if int(parent) == pid:
                found[int(path.name)] = (path / "cmdline").read_text(errors="replace").replace("\0", " ")
    return found


async def end(process: asyncio.subprocess.Process) -> None:
    for signal in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            signal()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
                return


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, log: Path, seconds: float = START_SECONDS
) -> None:
    """Raises TimeoutError with the log."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not after {seconds:g} s:\n{log.read_text(errors='replace')[-4000:]}")
        await asyncio.sleep(0.05)


async def takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
