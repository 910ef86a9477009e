"""Frame slots: equal pieces of one anonymous shared memory that parent, decoders and inference workers map.

The memory has no name (memfd): nothing is left behind when every process is killed, and no `/dev/shm` limit holds.
The parent owns the slots; `SlotPool` says who may write to which.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""Height × width × 3, RGB, 0–255."""

_CHANNELS: Final = 3


class FrameSlots:
    """`count` slots of `slot_bytes` each, mapped into this process. Slots are numbered from 0."""

    def __init__(self, descriptor: int, count: int, slot_bytes: int) -> None:
        if count < 1 or slot_bytes < _CHANNELS:
            raise ValueError(f"{count} slots of {slot_bytes} bytes: at least 1 slot of {_CHANNELS} bytes")
        self.fd = descriptor
        self.count = count
        self.slot_bytes = slot_bytes
        self._stride = _page_rounded(slot_bytes)
        self._memory = mmap.mmap(descriptor, self._stride * count)

    @classmethod
    def create(cls, count: int, slot_bytes: int) -> FrameSlots:
        """New slots; memory is taken only as slots are first written. Raises ValueError, OSError."""
        if count < 1 or slot_bytes < _CHANNELS:
            raise ValueError(f"{count} slots of {slot_bytes} bytes: at least 1 slot of {_CHANNELS} bytes")
        descriptor = os.memfd_create("frame-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, _page_rounded(slot_bytes) * count)
            # A shrunk file would kill every process that touches its slots (SIGBUS).
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            return cls(descriptor, count, slot_bytes)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def attach(cls, descriptor: int, count: int, slot_bytes: int) -> FrameSlots:
        """The parent's slots in a child that inherited `descriptor`; takes over the descriptor.

        Raises ValueError where the memory is smaller than `count` and `slot_bytes` say.
        """
        expected = _page_rounded(slot_bytes) * count
        if (actual := os.fstat(descriptor).st_size) < expected:
            raise ValueError(f"shared memory holds {actual} bytes, {expected} were expected")
        return cls(descriptor, count, slot_bytes)

    def view(self, slot: int, height: int, width: int) -> Picture:
        """Height × width × 3, uint8, writable, no copy. Raises ValueError for a slot or size out of bounds."""
        if not 0 <= slot < self.count:
            raise ValueError(f"slot {slot} is not one of 0–{self.count - 1}")
        if height < 1 or width < 1 or (needed := height * width * _CHANNELS) > self.slot_bytes:
            raise ValueError(f"a picture of {width}×{height} does not fit a slot of {self.slot_bytes} bytes")
        flat = np.frombuffer(self._memory, np.uint8, needed, slot * self._stride)
        return flat.reshape(height, width, _CHANNELS)

    def close(self) -> None:
        """Unmap and close. Views must be gone or are left mapped until they are. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        with contextlib.suppress(BufferError):  # a view lives: the mapping goes with it
            self._memory.close()


class SlotPool:
    """Who holds which slot. Fair: of the waiting owners the one with the fewest slots is next, in turn on a tie.

    `count` slots from number `first` on. For one event loop; not for threads.
    """

    def __init__(self, count: int, first: int = 0) -> None:
        self.count = count
        self._free = deque(range(first, first + count))
        self._holder: dict[int, str] = {}
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[int]]] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def in_use(self) -> int:
        return len(self._holder)

    @property
    def waiting(self) -> int:
        """Calls of `acquire` that wait."""
        return sum(map(len, self._waiting.values()))

    def held_by(self, owner: str) -> int:
        return self._held.get(owner, 0)

    def try_acquire(self, owner: str) -> int | None:
        """A slot at once, or None: when there is none, or others wait for one."""
        return self._take(owner) if self._free and not self._waiting else None

    async def acquire(self, owner: str) -> int:
        """A slot for `owner`, which must give it back by `release`. Waits for its turn; cancelling is safe."""
        slot = self.try_acquire(owner)
        return await self._wait_for_turn(owner) if slot is None else slot

    def release(self, slot: int) -> None:
        """Raises ValueError when nobody holds `slot`."""
        owner = self._holder.pop(slot, None)
        if owner is None:
            raise ValueError(f"slot {slot} is not in use")
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._free.append(slot)
        self._hand_out()

    def reclaim(self, owner: str, slots: Iterable[int] | None = None) -> int:
        """Release those of `slots` (None: all) that `owner` holds, and say how many. Others' slots stay theirs."""
        wanted = None if slots is None else set(slots)
        lost = [slot for slot, holder in self._holder.items() if holder == owner]
        taken = [slot for slot in lost if wanted is None or slot in wanted]
        for slot in taken:
            self.release(slot)
        return len(taken)

    def _take(self, owner: str) -> int:
        slot = self._free.popleft()
        self._holder[slot] = owner
        self._held[owner] = self.held_by(owner) + 1
        return slot

    async def _wait_for_turn(self, owner: str) -> int:
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._hand_out()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(turn.result())
            else:
                self._forget(owner, turn)
            raise

    def _forget(self, owner: str, turn: asyncio.Future[int]) -> None:
        turns = self._waiting.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[owner]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            # min() takes the first of equals; who was served goes to the end of the dictionary.
            owner = min(self._waiting, key=self.held_by)
            turns = self._waiting.pop(owner)
            turn = turns.popleft()
            if turns:
                self._waiting[owner] = turns
            if not turn.done():
                turn.set_result(self._take(owner))


def _page_rounded(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
