from __future__ import annotations

from collections.abc import Iterable

from monolith.live.feeds import GROUP_BYTES
from monolith.live.followed.messages import Pictures
from monolith.live.followed.outlet import OUT_BYTES, OUT_SECONDS, Outlet
from tests.pushed import FRAME, packet


def put(outlet: Outlet, numbers: Iterable[int], keyframes: Iterable[int] = (), *, size: int = 10) -> None:
    """Each is due, and let go, at its number."""
    for number in numbers:
        outlet.put(packet(number, keyframe=number in set(keyframes), size=size), due=number)
        outlet.release(now=number, arrived=1000 + number)


def said(outlet: Outlet) -> list[int]:
    pictures = outlet.take()
    return [] if pictures is None else [one.pts // FRAME for one in pictures.packets]


def test_who_begins_to_watch_gets_the_newest_group_first() -> None:
    outlet = Outlet()
    put(outlet, range(8), keyframes=(0, 5))
    assert outlet.take() is None
    outlet.watch(True)
    first = outlet.take()
    assert first is not None and first.newest_group
    assert [one.pts // FRAME for one in first.packets] == [5, 6, 7]
    assert (first.group_seconds, first.dropped) == (0.2, 0)
    assert [one.arrived for one in first.packets] == [1005, 1006, 1007]
    put(outlet, (8, 9))
    assert said(outlet) == [8, 9]
    assert outlet.take() is None


def test_nothing_is_said_when_nobody_watches_any_more() -> None:
    outlet = Outlet()
    put(outlet, range(3), keyframes=(0,))
    outlet.watch(True)
    outlet.take()
    put(outlet, (3,))
    outlet.watch(False)
    put(outlet, (4,))
    assert (outlet.take(), outlet.next_due()) == (None, None)
    outlet.watch(True)
    assert said(outlet) == [0, 1, 2, 3, 4]


def test_a_source_that_shows_no_keyframe_yet_is_joined_with_the_next() -> None:
    outlet = Outlet()
    outlet.watch(True)
    assert outlet.take() == Pictures((), newest_group=True)
    put(outlet, range(6), keyframes=(4,))
    assert said(outlet) == [4, 5]


def test_what_is_early_waits() -> None:
    outlet = Outlet()
    outlet.watch(True)
    outlet.take()
    for number in range(4):
        outlet.put(packet(number, keyframe=number == 0), due=10 + number)
    outlet.release(now=11.5, arrived=0.0)
    assert (said(outlet), outlet.next_due()) == ([0, 1], 12)
    outlet.release(now=float("inf"), arrived=0.0)
    assert said(outlet) == [2, 3]


def test_no_more_bytes_wait_than_may() -> None:
    outlet = Outlet()
    outlet.watch(True)
    outlet.take()
    for number in range(10):
        outlet.put(packet(number, keyframe=True, size=GROUP_BYTES // 4 - 1000), due=1e9)
        outlet.release(now=0.0, arrived=0.0)
    assert len(said(outlet)) + outlet_dropped(outlet) == 10 - 4


def outlet_dropped(outlet: Outlet) -> int:
    """Said with the next packet that goes out."""
    outlet.put(packet(1000, keyframe=True), due=0)
    outlet.release(now=float("inf"), arrived=0.0)
    pictures = outlet.take()
    return 0 if pictures is None else pictures.dropped


def test_a_program_that_does_not_keep_up_loses_what_is_old_up_to_a_keyframe() -> None:
    outlet = Outlet()
    outlet.watch(True)
    outlet.take()
    most = round(OUT_SECONDS * 25)
    put(outlet, range(most + 10), keyframes=(0, most + 6))
    pictures = outlet.take()
    assert pictures is not None
    assert [one.pts // FRAME for one in pictures.packets] == list(range(most + 6, most + 10))
    assert pictures.dropped == most + 6
    put(outlet, (most + 10,))
    again = outlet.take()
    assert again is not None and again.dropped == 0


def test_large_pictures_are_bounded_too() -> None:
    outlet = Outlet()
    outlet.watch(True)
    outlet.take()
    put(outlet, range(9), keyframes=range(9), size=OUT_BYTES // 4)
    pictures = outlet.take()
    assert pictures is not None
    assert len(pictures.packets) + pictures.dropped == 9
    assert sum(len(one.data) for one in pictures.packets) <= OUT_BYTES
