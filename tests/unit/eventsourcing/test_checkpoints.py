from __future__ import annotations

from eventsourcing.checkpoints import MemoryCheckpoints


async def test_positions_are_kept_by_name_and_never_go_back() -> None:
    checkpoints = MemoryCheckpoints()
    assert await checkpoints.load("relay") is None
    await checkpoints.save("relay", 5)
    await checkpoints.save("manager", 0)
    await checkpoints.save("relay", 3)
    assert await checkpoints.load("relay") == 5
    assert await checkpoints.load("manager") == 0
