"""Frames waiting for one model: bounded, fair between videos, handed out in batches."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from monolith.inference.errors import QueueFullError

T = TypeVar("T", bound=Hashable)


class DynamicBatcher(Generic[T]):
    """A pure structure: it reads no clock and starts nothing; `now` is any monotonic clock in seconds.

    Every key (a video) has its own line; a batch takes one item of each line in turn, and the next batch goes on with
    the line that is next. So while a key has an item waiting, no other key is served twice before it.
    Items are unique.
    """

    def __init__(self, *, max_batch_size: int, max_queue_size: int, max_queue_delay: float = 0.0) -> None:
        """`max_queue_delay`: seconds that an item may wait for others to fill its batch."""
        if max_batch_size < 1 or max_queue_size < 1 or not max_queue_delay >= 0:
            raise ValueError("sizes are at least 1, the delay at least 0")
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._max_queue_delay = max_queue_delay
        self._lines: OrderedDict[str, OrderedDict[T, float]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, key: str, item: T, now: float) -> None:
        """Raises QueueFullError."""
        if self._count >= self._max_queue_size:
            raise QueueFullError(f"{self._count} frames wait already")
        line = self._lines.setdefault(key, OrderedDict())
        assert item not in line
        line[item] = now
        self._count += 1

    def remove(self, key: str, item: T) -> bool:
        """Whether `item` was waiting; now it is not."""
        line = self._lines.get(key)
        if line is None or line.pop(item, None) is None:
            return False
        self._count -= 1
        if not line:
            del self._lines[key]
        return True

    def due_at(self) -> float | None:
        """When the next batch should go: at once (minus infinity) when it is full, else when the oldest item has waited
        `max_queue_delay`; None when nothing waits."""
        if not self._count:
            return None
        if self._count >= self._max_batch_size or not self._max_queue_delay:
            return -math.inf
        return min(next(iter(line.values())) for line in self._lines.values()) + self._max_queue_delay

    def take(self, workers: int = 1) -> list[T]:
        """The next batch, removed: at most `max_batch_size` items, and at most the share of one of `workers` equal
        workers, so that none idles while another has a long batch (guided self-scheduling, Polychronopoulos and
        Kuck 1987: the remaining items divided by the number of workers, rounded up)."""
        share = math.ceil(self._count / workers)
        return [self._next() for _ in range(min(share, self._max_batch_size))]

    def _next(self) -> T:
        key, line = self._lines.popitem(last=False)
        item, _ = line.popitem(last=False)
        if line:
            self._lines[key] = line
        self._count -= 1
        return item
