from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.inference.sizing import (
    MAX_WORKERS,
    Sizing,
    available_cores,
    available_memory,
    cores_within,
    limits_of,
    live_slot_count,
    memory_within,
    size_workers,
    slot_count,
)

GIB = 1024**3


def slots(**changes: int) -> int:
    usual = {
        "workers": 2,
        "depth": 2,
        "max_batch_size": 4,
        "decoders": 2,
        "slots_per_decoder": 8,
        "slot_bytes": 3_000_000,
        "memory": 8 * GIB,
    }
    return slot_count(**(usual | changes))


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [
        (1, 8 * GIB, Sizing(1, 1)),
        (2, 8 * GIB, Sizing(2, 1)),
        (8, 32 * GIB, Sizing(8, 1)),
        (64, 256 * GIB, Sizing(16, 4)),
        (8, 4 * GIB, Sizing(4, 2)),
        (4, GIB // 4, Sizing(1, 4)),
    ],
)
def test_one_process_a_core_while_memory_holds(cores: int, memory: int, expected: Sizing) -> None:
    assert size_workers(cores, memory) == expected


def test_settings_win() -> None:
    assert size_workers(2, 8 * GIB, workers=5) == Sizing(5, 1)
    assert size_workers(8, 8 * GIB, threads=4) == Sizing(2, 4)
    assert size_workers(2, 8 * GIB, workers=1, threads=2) == Sizing(1, 2)


def test_settings_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        size_workers(2, 8 * GIB, workers=0)
    with pytest.raises(ValueError, match="threads must be at least 1, not -1"):
        size_workers(2, 8 * GIB, threads=-1)


@given(cores=st.integers(1, 512), memory=st.integers(1, 4096 * GIB))
def test_uses_cores_and_never_more(cores: int, memory: int) -> None:
    sizing = size_workers(cores, memory)
    assert 1 <= sizing.workers <= MAX_WORKERS
    assert sizing.workers * sizing.threads <= cores < sizing.workers * (sizing.threads + 1)


def test_slots_are_what_the_workers_hold_and_each_decoders_share() -> None:
    assert slots() == 2 * 2 * 4 + 2 * 8


def test_slots_keep_within_memory_and_say_when_even_the_least_do_not_fit() -> None:
    assert slots(memory=100_000_000) == 8
    with pytest.raises(ValueError, match="6 frame slots of 3000000 bytes do not fit"):
        slots(memory=50_000_000)


@pytest.mark.parametrize(
    ("affinity", "quotas", "expected"),
    [
        (4, [], 4),
        (4, ["max 100000\n"], 4),
        (4, ["200000 100000\n", "max 100000\n"], 2),
        (4, ["150000 100000"], 2),
        (4, ["20000 100000"], 1),
        (1, ["800000 100000"], 1),
    ],
)
def test_cores_by_affinity_and_quota(affinity: int, quotas: list[str], expected: int) -> None:
    assert cores_within(affinity, quotas) == expected


def test_memory_by_machine_and_cgroup() -> None:
    assert memory_within(8 * GIB, ["max\n"]) == 8 * GIB
    assert memory_within(8 * GIB, [f"{GIB}\n", "max"]) == GIB


def test_limits_are_read_from_the_own_cgroup_and_all_above(tmp_path: Path) -> None:
    group = tmp_path / "service" / "own"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    (tmp_path / "service" / "cpu.max").write_text("50000 100000\n")
    membership = "3:cpuset:/\n0::/service/own\n"
    assert list(limits_of(membership, tmp_path, "cpu.max")) == ["max 100000\n", "50000 100000\n"]


def test_a_container_sees_its_own_root_only(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert list(limits_of("0::/../elsewhere\n", tmp_path, "cpu.max")) == ["100000 100000\n"]
    assert list(limits_of("1:cpu:/\n", tmp_path, "cpu.max")) == []


def test_this_machine_has_something() -> None:
    assert available_cores() >= 1
    assert available_memory() > 0


def test_live_sources_have_slots_of_their_own_as_far_as_memory_goes() -> None:
    def live(memory: int) -> int:
        return live_slot_count(sources=32, slots_per_source=4, taken=50, slot_bytes=1000, memory=memory)

    assert live(4_000_000) == 128
    assert live(400_000) == 50
    assert live(100_000) == 2
