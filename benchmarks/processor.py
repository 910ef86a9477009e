"""Processor time of a running server, by what its processes do."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.program import Server

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Counts from the moment when it is made: of the main process, the decoders and the inference workers.

    A process that begins meanwhile counts from its beginning; one that ends meanwhile does not count.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._seconds()
        self._since = time.monotonic()

    def cores(self) -> dict[str, float]:
        """Processor seconds a second since then: of `main`, `decoder` and `worker`."""
        elapsed = time.monotonic() - self._since
        cores: defaultdict[str, float] = defaultdict(float)
        for process, (role, seconds) in self._seconds().items():
            cores[role] += (seconds - self._before.get(process, (role, 0.0))[1]) / elapsed
        return {role: cores[role] for role in ("main", "decoder", "worker")}

    def _seconds(self) -> dict[int, tuple[str, float]]:
        """Of each process, by its id: its role, and user and system time so far."""
        roles = {self._server.pid: "main", **self._server.children()}
        return {pid: (role, processor_seconds(pid)) for pid, role in roles.items()}


def processor_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc(5), `stat`, fields 14 and 15)."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
