from __future__ import annotations

from monolith.protocols.rtmp.timestamps import Unwrapper


def unwrapped(*times: int) -> list[int]:
    clock = Unwrapper()
    return [clock(time) for time in times]


def test_times_run_on_over_the_overflow_of_32_bits() -> None:
    assert unwrapped(0xFFFFFFF0, 0x10, 0x20) == [0xFFFFFFF0, 0x100000010, 0x100000020]


def test_times_may_go_back() -> None:
    assert unwrapped(100, 60, 0xFFFFFFFF) == [100, 60, -1]


def test_a_whole_turn_by_steps() -> None:
    step = 0x10000000
    times = unwrapped(*(number * step & 0xFFFFFFFF for number in range(40)))
    assert times == [number * step for number in range(40)]
