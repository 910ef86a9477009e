"""A disk that fills up: said once, waited for, said when it is over."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from monolith.disk_watch import DiskState, DiskWatch, SlotsWhileRoom, look_at
from monolith.inference.shared_memory import SlotPool

LIMIT = 1000
MIB = 1 << 20


class Disk:
    """A disk whose room the test sets; `answers`: cleared, it hangs."""

    def __init__(self) -> None:
        self.free = 100 * MIB
        self.inodes: int | None = 1 << 20
        self.error: OSError | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.looks = 0
        self.now = 0.0

    def look(self, folder: Path) -> DiskState:
        self.looks += 1
        self.answers.wait(60)
        if self.error:
            raise self.error
        return DiskState(self.free, 200 * MIB, self.inodes)

    def watch(self, limit: int = 50 * MIB) -> DiskWatch:
        return DiskWatch(Path("/data"), limit, look=self.look, clock=lambda: self.now, interval=0.01)


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_what_is_too_full_is_said_once_and_what_would_help(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "monolith.disk_watch")
    watch = disk.watch()
    assert await watch.check() is None
    disk.free = 49 * MIB
    for _ in range(3):
        await watch.check()
    assert watch.reason == (
        "the disk of /data is nearly full: 49 MiB are free, 50 MiB must stay free (VIDEO_ANALYSIS_MIN_FREE_BYTES); "
        "remove videos, or make room; work goes on by itself then"
    )
    disk.free = 50 * MIB
    assert await watch.check() is not None  # not at every file that comes and goes
    disk.free = 52 * MIB
    assert await watch.check() is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_of_two_disks_the_fuller_one_counts() -> None:
    free = {Path("/data"): 60 * MIB, Path("/shared"): 100 * MIB}

    def look(folder: Path) -> DiskState:
        return DiskState(free[folder], 200 * MIB, None)

    watch = DiskWatch(Path("/data"), 50 * MIB, others=[Path("/shared")], look=look)
    assert await watch.check() is None
    free[Path("/shared")] = 10 * MIB
    assert (await watch.check() or "").startswith("the disk of /shared is nearly full: 10 MiB are free")
    assert watch.state is not None and watch.state.free_bytes == 10 * MIB


async def test_files_can_run_out_before_bytes(disk: Disk) -> None:
    watch = disk.watch()
    disk.inodes = 500
    assert "has room for 500 more files only" in (await watch.check() or "")
    disk.inodes = None  # a file system that does not count files
    assert await watch.check() is None


async def test_a_disk_that_is_gone_is_full(disk: Disk) -> None:
    disk.error = OSError(5, "Input/output error")
    assert await disk.watch().check() == "the disk of /data cannot be looked at: Input/output error"


async def test_a_disk_that_hangs_is_asked_by_one_thread_alone(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.disk_watch._LOOK_SECONDS", 0.05)
    disk.answers.clear()
    watch = disk.watch()
    for _ in range(3):
        assert "does not answer" in (await watch.check() or "")
    assert disk.looks == 1
    disk.answers.set()
    async with asyncio.timeout(60):
        while await watch.check() is not None:
            await asyncio.sleep(0)


async def test_no_slot_is_lent_while_there_is_no_room(disk: Disk) -> None:
    watch = disk.watch()
    slots = SlotsWhileRoom(SlotPool(2), watch.until_room)
    first = await slots.acquire("a")
    disk.free = 0
    await watch.check()
    waiting = asyncio.create_task(slots.acquire("a"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    slots.release(first)  # what was lent comes back all the same
    disk.free = 100 * MIB
    watching = asyncio.create_task(watch.run())
    async with asyncio.timeout(60):
        slots.release(await waiting)
    watching.cancel()
    await asyncio.wait({watching})


async def test_when_it_will_be_full_is_foretold_from_the_last_minutes(disk: Disk) -> None:
    watch = disk.watch()
    for second in range(60):
        disk.now, disk.free = float(second), 100 * MIB - second * MIB // 2
        await watch.check()
    left = disk.free - 50 * MIB
    assert watch.seconds_until_full() == pytest.approx(left / (MIB / 2), rel=0.01)
    for second in range(60, 460):
        disk.now = float(second)
        await watch.check()
    assert watch.seconds_until_full() is None  # it fills up no more


def test_a_real_disk_has_a_size(tmp_path: Path) -> None:
    state = look_at(tmp_path)
    assert 0 < state.free_bytes <= state.total_bytes
    with pytest.raises(OSError, match="No such file"):
        look_at(tmp_path / "none")
