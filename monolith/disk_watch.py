"""Watches the room on the disks that the program writes to, so that work stops before the disk is full, not when it is.

Below the limit nothing new is taken in, and work in hand is given no more frame slots: decoders wait, nothing is lost.
Events, which are small, still find room then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from monolith.application.ports import Slots

INTERVAL: Final = 2.0
_LOOK_SECONDS: Final = 10.0
_LEAST_INODES: Final = 1_000
"""Each attempt at a segment makes a file, and so do the databases."""
_RELIEF: Final = 1.02
"""Work goes on when so much more than the limit is free: not at every file that comes and goes."""
_SAMPLES: Final = 300
_SAMPLES_FOR_FORECAST: Final = 30

logger = logging.getLogger(__name__)


class DiskState(msgspec.Struct, frozen=True):
    """Sizes in bytes. `free_inodes`: None where the file system does not count files."""

    free_bytes: int
    total_bytes: int
    free_inodes: int | None


def look_at(folder: Path) -> DiskState:
    """Blocks. Raises OSError."""
    found = os.statvfs(folder)
    return DiskState(
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        found.f_favail if found.f_files else None,
    )


class DiskWatch:
    """Run it as one task. `reason` and `state` are those of the last look; of several disks, of the fullest.

    `folder`: on the first disk; `others`: on others, where not all files lie on one.
    """

    def __init__(
        self,
        folder: Path,
        min_free_bytes: int,
        *,
        others: Sequence[Path] = (),
        interval: float = INTERVAL,
        look: Callable[[Path], DiskState] = look_at,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = (folder, *others)
        self.min_free_bytes = min_free_bytes
        self._interval = interval
        self._look = look
        self._clock = clock
        self._looking: dict[Path, asyncio.Task[DiskState]] = {}
        self._states: dict[Path, DiskState] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self.state: DiskState | None = None
        self.reason: str | None = None
        """Why there is no room, and what would help, for users; None while there is room."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval)

    async def check(self) -> str | None:
        """Look now; `reason` afterwards."""
        self._note(await self._reason_now())
        return self.reason

    async def until_room(self) -> None:
        """Return at once while there is room."""
        await self._room.wait()

    def seconds_until_full(self) -> float | None:
        """When the limit is met if the disk fills up as it did in the last minutes; None: it does not fill up."""
        if len(self._samples) < _SAMPLES_FOR_FORECAST:
            return None
        (began, before), (now, free) = self._samples[0], self._samples[-1]
        if free >= before or now <= began:
            return None
        return max(0.0, (free - self.min_free_bytes) / ((before - free) / (now - began)))

    async def _reason_now(self) -> str | None:
        reasons = await asyncio.gather(*map(self._reason_of, self._folders))
        if self._states:
            self.state = min(self._states.values(), key=lambda state: state.free_bytes)
            self._samples.append((self._clock(), self.state.free_bytes))
        return next(filter(None, reasons), None)

    async def _reason_of(self, folder: Path) -> str | None:
        looking = self._looking.get(folder)
        if looking is None:
            looking = asyncio.create_task(asyncio.to_thread(self._look, folder), name="disk look")
            self._looking[folder] = looking
        await asyncio.wait({looking}, timeout=_LOOK_SECONDS)
        if not looking.done():
            return f"the disk of {folder} does not answer; see whether it is still connected"
        self._looking.pop(folder, None)
        try:
            state = self._states[folder] = looking.result()
        except OSError as error:
            return f"the disk of {folder} cannot be looked at: {error.strerror or error}"
        return self._judge(folder, state)

    def _judge(self, folder: Path, state: DiskState) -> str | None:
        relief = _RELIEF if self.reason else 1.0
        if state.free_bytes < self.min_free_bytes * relief:
            return (
                f"the disk of {folder} is nearly full: {_mib(state.free_bytes)} MiB are free,"
                f" {_mib(self.min_free_bytes)} MiB must stay free (VIDEO_ANALYSIS_MIN_FREE_BYTES); remove videos, or"
                " make room; work goes on by itself then"
            )
        if state.free_inodes is not None and state.free_inodes < _LEAST_INODES * relief:
            return (
                f"the file system of {folder} has room for {state.free_inodes} more files only; remove videos,"
                " or other files; work goes on by itself then"
            )
        return None

    def _note(self, reason: str | None) -> None:
        before, self.reason = self.reason, reason
        if reason and not before:
            self._room.clear()
            logger.warning("no new work is taken in, work in hand waits: %s", reason)
        if before and not reason:
            self._room.set()
            logger.info("there is room on the disk again: work goes on")


def _mib(size: int) -> int:
    return size >> 20


class SlotsWhileRoom:
    """The `Slots` port: none is handed out while there is no room for the frames to come."""

    def __init__(self, slots: Slots, until_room: Callable[[], Awaitable[None]]) -> None:
        self._slots = slots
        self._until_room = until_room

    async def acquire(self, owner: str) -> int:
        await self._until_room()
        return await self._slots.acquire(owner)

    def release(self, slot: int) -> None:
        self._slots.release(slot)
