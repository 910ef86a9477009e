"""Collections that grow by an event at a time at little cost, while whoever holds one never sees it change.

A live source that is analysed for weeks has tens of thousands of segments: copying a tuple or a dictionary at each of
their events would make the reading of its stream quadratic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import TypeVar, overload

T = TypeVar("T")


class Growing(Sequence[T]):
    """A sequence that `plus` makes longer: in constant time for each item, but for a second continuation of the same
    beginning, which is copied."""

    __slots__ = ("_items", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(items)
        self._length = len(self._items)

    def plus(self, items: Iterable[T]) -> Growing[T]:
        """All of this, then `items`."""
        longer: Growing[T] = Growing()
        # The list is shared: each version looks no further than its own length.
        shared = len(self._items) == self._length
        longer._items = self._items if shared else self._items[: self._length]
        longer._items.extend(items)
        longer._length = len(longer._items)
        return longer

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._items[one] for one in range(*index.indices(self._length))]
        return self._items[range(self._length)[index]]

    def __iter__(self) -> Iterator[T]:
        return islice(self._items, self._length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Growing) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Growing({list(self)!r})"


class Numbers(Set[int]):
    """A set of whole numbers, kept as ranges: small where they follow one another."""

    __slots__ = ("_ranges",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._ranges: tuple[range, ...] = _merged(range(n, n + 1) for n in numbers)

    def plus(self, numbers: Iterable[int]) -> Numbers:
        """These and `numbers`."""
        more = Numbers()
        more._ranges = _merged([*self._ranges, *(range(n, n + 1) for n in numbers)])
        return more

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        place = bisect_right(self._ranges, number, key=lambda part: part.start)
        return place > 0 and number in self._ranges[place - 1]

    def __iter__(self) -> Iterator[int]:
        for part in self._ranges:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self._ranges))

    def __repr__(self) -> str:
        return f"Numbers({list(self)!r})"


def _merged(ranges: Iterable[range]) -> tuple[range, ...]:
    merged: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if merged and part.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
        else:
            merged.append(part)
    return tuple(merged)
