from __future__ import annotations

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.checkpoints import Checkpoints, MemoryCheckpoints, StreamCheckpoints


@pytest.fixture(params=["memory", "streams"])
def checkpoints(request: pytest.FixtureRequest) -> Checkpoints:
    return MemoryCheckpoints() if request.param == "memory" else StreamCheckpoints(MemoryEventStore())


async def test_positions_are_kept_by_name_and_never_go_back(checkpoints: Checkpoints) -> None:
    assert await checkpoints.load("relay") is None
    await checkpoints.save("relay", 5)
    await checkpoints.save("manager", 0)
    await checkpoints.save("relay", 3)
    assert await checkpoints.load("relay") == 5
    assert await checkpoints.load("manager") == 0


async def test_the_next_consumer_goes_on_where_the_last_one_was() -> None:
    store = MemoryEventStore()
    await StreamCheckpoints(store).save("relay", 7)
    assert await StreamCheckpoints(store).load("relay") == 7


async def test_the_streams_of_checkpoints_stay_short() -> None:
    store = MemoryEventStore()
    checkpoints = StreamCheckpoints(store, most_events=4)
    for position in range(100):
        if position % 7 == 0:
            checkpoints = StreamCheckpoints(store, most_events=4)
        await checkpoints.save("relay", position)
        kept = await store.read_all(prefixes=("checkpoint-relay-",))
        assert 1 <= len(kept) <= 12
        assert await StreamCheckpoints(store).load("relay") == position


async def test_a_turn_that_was_cut_off_loses_nothing() -> None:
    store = MemoryEventStore()

    async def never(stream_name: str) -> None:
        raise ConnectionError

    checkpoints = StreamCheckpoints(store, most_events=1)
    await checkpoints.save("relay", 1)
    store.delete_stream = never  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await checkpoints.save("relay", 2)
    assert await StreamCheckpoints(store).load("relay") == 2


async def test_what_is_forgotten_begins_anew(checkpoints: Checkpoints) -> None:
    await checkpoints.save("relay", 9)
    await checkpoints.forget("relay")
    assert await checkpoints.load("relay") is None
    await checkpoints.save("relay", 2)
    assert await checkpoints.load("relay") == 2
