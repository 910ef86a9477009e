"""What Prometheus sees of the machine and of this process: disk, databases, memory of the children, build."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import apsw
from prometheus_client import CollectorRegistry, Info, ProcessCollector

from monolith.disk_watch import DiskWatch
from monolith.logs import ThreadedHandler, threaded_handler
from monolith.metrics import PREFIX, Reading

_WAL: Final = "-wal"
_PRIVATE_MEMORY: Final = re.compile(r"^RssAnon:\s+(\d+) kB", re.MULTILINE)


def add_process_metrics(registry: CollectorRegistry) -> None:
    """Memory, processor time, open files, start time of this process (Prometheus' own names), and what was built."""
    ProcessCollector(registry=registry)
    build = Info(f"{PREFIX}build", "The program that runs", registry=registry)
    build.info(
        {"version": program_version(), "python": platform.python_version(), "machine": platform.machine()}
    )


def program_version() -> str:
    try:
        return version("video-analysis")
    except PackageNotFoundError:
        return "source"


def disk_readings(disk: DiskWatch) -> list[Reading]:
    """As the disk watch saw it last; what it does not know has no value."""

    def seen(read: Callable[[], float | None]) -> Callable[[], dict[str, float]]:
        def values() -> dict[str, float]:
            value = read()
            return {} if value is None else {"data": value}

        return values

    def state(name: str) -> float | None:
        value: float | None = getattr(disk.state, name, None)
        return value

    return [
        ("disk_free_bytes{disk}", "What is free for us on the disk of the data directory",
         seen(lambda: state("free_bytes"))),
        ("disk_size_bytes{disk}", "The disk of the data directory", seen(lambda: state("total_bytes"))),
        ("disk_free_files{disk}", "Files that may still be made (inodes)", seen(lambda: state("free_inodes"))),
        ("disk_min_free_bytes{disk}", "Below it no new work is taken in", seen(lambda: disk.min_free_bytes)),
        ("disk_full_in_seconds{disk}", "Until that happens, if the disk fills up as in the last minutes",
         seen(disk.seconds_until_full)),
        ("disk_full", "1 while work waits for room on the disk", lambda: float(disk.reason is not None)),
    ]  # fmt: skip


def log_readings() -> list[Reading]:
    """The log's queue; no values where the log goes to a terminal."""

    def seen(read: Callable[[ThreadedHandler], float]) -> Callable[[], dict[str, float]]:
        return lambda: {"main": read(handler)} if (handler := threaded_handler()) is not None else {}

    return [
        ("log_queue_length{process}", "Log lines that wait to be written", seen(lambda handler: handler.load[0])),
        ("log_queue_limit{process}", "Log lines that may wait; more are lost", seen(lambda handler: handler.load[1])),
        ("log_lines_lost_total{process}", "Log lines that came faster than they could be written",
         seen(lambda handler: handler.lost_so_far)),
    ]  # fmt: skip


def database_readings(files: Mapping[str, Path]) -> list[Reading]:
    """`files`: database → its file. They block: for a thread."""
    return [
        ("database_bytes{database}", "A database with its write-ahead log, on the disk",
         lambda: {name: _size(path) + _size(path.with_name(path.name + _WAL)) for name, path in files.items()}),
        ("database_memory_bytes", "What SQLite holds in memory for all databases, most of it pages of them",
         lambda: float(apsw.memory_used())),
    ]  # fmt: skip


def child_readings(pids: Mapping[str, Callable[[], Iterable[int]]]) -> list[Reading]:
    """`pids`: kind of child → its processes now. They block: for a thread."""
    return [
        ("child_memory_bytes{kind}", "Memory of child processes, shared frame slots left out",
         lambda: {kind: sum(map(_private_memory, now())) for kind, now in pids.items()}),
    ]  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _private_memory(pid: int) -> int:
    """0 for a process that has just ended."""
    try:
        found = _PRIVATE_MEMORY.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
