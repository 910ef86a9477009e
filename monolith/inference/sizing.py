"""How many workers, threads and frame slots this machine should have. Pure, but for the `available_*` functions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

MAX_WORKERS: Final = 16
"""Beyond it, more threads each: every worker loads the models again."""
WORKER_BYTES: Final = 512 * 1024 * 1024
"""What a worker with all models may take (float32, engine included), with room to spare."""
_WORKERS_SHARE: Final = 0.5
_SLOTS_SHARE: Final = 0.25
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


class Sizing(msgspec.Struct, frozen=True):
    """`workers` processes with `threads` engine threads each."""

    workers: int
    threads: int


def size_workers(
    cores: int, memory: int, *, workers: int | None = None, threads: int | None = None
) -> Sizing:
    """One process a core with one thread each: with all models, 2 × 1 did 46 frames/s on 2 cores and 1 × 2 did 32,
    since pre- and post-processing run in one thread. Fewer processes, with more threads, where there are more than
    `MAX_WORKERS` cores or half of `memory` (bytes) does not hold so many. `workers`, `threads`: settings that win.

    Raises ValueError for a setting below 1.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if workers is None:
        room = int(memory * _WORKERS_SHARE) // WORKER_BYTES
        workers = max(1, min(cores // (threads or 1), MAX_WORKERS, room))
    return Sizing(workers, threads or max(1, cores // workers))


def slot_count(
    *,
    workers: int,
    depth: int,
    max_batch_size: int,
    decoders: int,
    slots_per_decoder: int,
    slot_bytes: int,
    memory: int,
) -> int:
    """Frame slots: what the workers can hold at once, and each decoder's share, within a quarter of `memory` (bytes).

    Never below one for each worker and two for each decoder (one filling, one waiting). Raises ValueError when even
    these do not fit.
    """
    wanted = workers * depth * max_batch_size + decoders * slots_per_decoder
    least = workers + 2 * decoders
    room = int(memory * _SLOTS_SHARE) // slot_bytes
    if room < least:
        raise ValueError(
            f"{least} frame slots of {slot_bytes} bytes do not fit into a quarter of {memory} bytes of memory: "
            "use fewer workers or sources at once, or a smaller FRAME_MAX_HEIGHT"
        )
    return max(least, min(wanted, room))


def live_slot_count(*, sources: int, slots_per_source: int, taken: int, slot_bytes: int, memory: int) -> int:
    """Frame slots of live sources, which files never wait for nor take: each source's share, as far as the `taken` ones
    leave room in a quarter of `memory` (bytes). At least 2, for one source."""
    room = int(memory * _SLOTS_SHARE) // slot_bytes - taken
    return max(2, min(sources * slots_per_source, room))


def cores_within(affinity: int, quotas: Iterable[str]) -> int:
    """Cores by the CPUs that the process may use and the cgroup v2 `cpu.max` texts that apply (`max 100000` or
    `QUOTA PERIOD`, microseconds); part of a core counts from a half. At least 1."""
    limit = float(affinity)
    for text in quotas:
        quota, _, period = text.strip().partition(" ")
        if quota != "max":
            limit = min(limit, int(quota) / int(period or 100_000))
    return max(1, math.floor(limit + 0.5))


def memory_within(physical: int, limits: Iterable[str]) -> int:
    """Bytes by the machine and the cgroup v2 `memory.max` texts that apply (`max` or bytes)."""
    return min([physical, *(int(text) for text in limits if text.strip() != "max")])


def available_cores() -> int:
    """Reads the affinity and the cgroup now."""
    return cores_within(len(os.sched_getaffinity(0)), _own_limits("cpu.max"))


def available_memory() -> int:
    """Bytes; reads the machine and the cgroup now."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory_within(physical, _own_limits("memory.max"))


def _own_limits(file_name: str) -> list[str]:
    """The file's texts in the process's cgroup and all above it; none on a machine without cgroup v2."""
    try:
        return list(limits_of(_OWN_CGROUP.read_text(), _CGROUPS, file_name))
    except OSError:
        return []


def limits_of(membership: str, root: Path, file_name: str) -> Iterator[str]:
    """`membership`: text of /proc/self/cgroup; `root`: where cgroup v2 is mounted. In a container the path may name
    directories that are not there: they are passed over."""
    for line in membership.splitlines():
        if not line.startswith("0::/"):
            continue
        own = PurePosixPath(line.removeprefix("0::/"))
        for group in (own, *own.parents):
            path = root / group / file_name
            if ".." not in group.parts and path.is_file():
                yield path.read_text()
