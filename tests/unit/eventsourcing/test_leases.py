from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.errors import LeaseLostError, LeaseTakenError, StoreUnavailableError
from eventsourcing.events import AppendResult, NewEvent
from eventsourcing.leases import Lease, Leases
from eventsourcing.versions import ExpectedVersion


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(MemoryEventStore(), clock=clock)


async def acquired(leases: Leases, owner: str) -> Lease:
    lease = await leases.acquire("relay", owner, 10)
    assert lease is not None
    return lease


async def test_one_holds_it_until_its_time_is_up(leases: Leases, clock: Clock) -> None:
    first = await acquired(leases, "a")
    assert (first.token, first.expires_at) == (0, 1_010.0)
    clock.now += 9.9
    assert await leases.acquire("relay", "b", 10) is None
    clock.now += 0.1
    second = await acquired(leases, "b")
    assert second.token > first.token


async def test_leases_of_other_names_are_free(leases: Leases) -> None:
    await acquired(leases, "a")
    assert await leases.acquire("manager", "b", 10) is not None


async def test_renewing_keeps_it(leases: Leases, clock: Clock) -> None:
    lease = await acquired(leases, "a")
    for _ in range(5):
        clock.now += 8
        renewed = await leases.renew(lease)
        assert (renewed.token, renewed.expires_at) == (lease.token + 1, clock.now + 10)
        lease = renewed
        assert await leases.acquire("relay", "b", 10) is None


async def test_a_late_renewal_counts_if_nobody_came(leases: Leases, clock: Clock) -> None:
    lease = await acquired(leases, "a")
    clock.now += 60
    with pytest.raises(LeaseLostError):
        await leases.check(lease)
    await leases.check(await leases.renew(lease))


async def test_who_lost_it_is_told(leases: Leases, clock: Clock) -> None:
    old = await acquired(leases, "a")
    clock.now += 10
    new = await acquired(leases, "b")
    for step in (leases.renew, leases.release, leases.check):
        with pytest.raises(LeaseLostError, match="a no longer holds lease 'relay'"):
            await step(old)
    await leases.check(new)


async def test_release_frees_it_at_once(leases: Leases) -> None:
    first = await acquired(leases, "a")
    await leases.release(first)
    second = await acquired(leases, "b")
    assert second.token > first.token


async def test_an_owner_may_take_its_own_again_and_the_old_token_is_void(leases: Leases) -> None:
    first = await acquired(leases, "a")
    second = await acquired(leases, "a")
    assert second.token > first.token
    with pytest.raises(LeaseLostError):
        await leases.renew(first)


async def test_of_many_at_once_one_gets_it(leases: Leases) -> None:
    taken = await asyncio.gather(*(leases.acquire("relay", f"o{n}", 10) for n in range(20)))
    assert sum(lease is not None for lease in taken) == 1


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["acquire", "renew", "release"]), st.floats(0, 12)),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_never_two_holders(steps: list[tuple[str, str, float]]) -> None:
    asyncio.run(follow(steps))


async def follow(steps: list[tuple[str, str, float]]) -> None:
    clock, held = Clock(), dict[str, Lease]()
    leases = Leases(MemoryEventStore(), clock=clock)
    tokens: list[int] = []
    for owner, step, pause in steps:
        clock.now += pause
        lease: Lease | None = None
        try:
            if step == "acquire":
                lease = await leases.acquire("relay", owner, 10)
            elif owner in held and step == "renew":
                lease = await leases.renew(held[owner])
            elif owner in held:
                await leases.release(held.pop(owner))
        except LeaseLostError:
            held.pop(owner, None)
        if lease is not None:
            held[owner] = lease
            tokens.append(lease.token)
        assert sum([await holds(leases, lease) for lease in held.values()]) <= 1
    assert tokens == sorted(set(tokens))


async def holds(leases: Leases, lease: Lease) -> bool:
    try:
        await leases.check(lease)
    except LeaseLostError:
        return False
    return True


class Absent(MemoryEventStore):
    """A store that may be away."""

    away = False

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if self.away:
            raise StoreUnavailableError("the store is away")
        return await super().append(stream_name, events, expected_version=expected_version)


async def test_kept_holds_it_meanwhile_and_gives_it_back(leases: Leases) -> None:
    lost = asyncio.Event()
    async with leases.kept("relay", "a", 10, lost=lost.set):
        assert await leases.holder("relay") == "a"
        with pytest.raises(LeaseTakenError):
            async with leases.kept("relay", "b", 10, lost=lost.set):
                pass
    assert await leases.holder("relay") is None
    assert not lost.is_set()


async def test_kept_renews_it(clock: Clock) -> None:
    store = MemoryEventStore()
    leases = Leases(store, clock=clock)
    async with leases.kept("relay", "a", 0.06, lost=lambda: None), asyncio.timeout(10):
        while (await store.stream_version("lease-relay") or 0) < 3:
            await asyncio.sleep(0.01)
    last = await store.read_stream("lease-relay", backwards=True, limit=1)
    assert last[0].event_type == "LeaseReleased"


async def test_kept_tells_when_another_has_taken_it(clock: Clock) -> None:
    store = MemoryEventStore()
    lost = asyncio.Event()
    async with Leases(store, clock=clock).kept("relay", "a", 0.3, lost=lost.set), asyncio.timeout(10):
        later = Leases(store, clock=lambda: clock.now + 1)
        assert await later.acquire("relay", "b", 1_000) is not None
        await lost.wait()
    assert await later.holder("relay") == "b"


async def test_kept_tells_when_the_store_is_away_for_too_long(clock: Clock) -> None:
    store = Absent()
    lost = asyncio.Event()
    async with Leases(store, clock=clock).kept("relay", "a", 0.3, lost=lost.set), asyncio.timeout(10):
        store.away = True
        clock.now += 0.25
        await lost.wait()


async def test_nobody_keeps_what_the_store_does_not_take(clock: Clock) -> None:
    store = Absent()
    store.away = True
    with pytest.raises(StoreUnavailableError):
        async with Leases(store, clock=clock).kept("relay", "a", 10, lost=lambda: None):
            pass


class Late(MemoryEventStore):
    """A store that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        appended = await super().append(stream_name, events, expected_version=expected_version)
        await self.answers.wait()
        return appended


async def test_a_lease_whose_store_answers_when_its_time_may_be_up_is_not_begun_with(clock: Clock) -> None:
    store = Late()
    leases = Leases(store, clock=clock)
    with pytest.raises(StoreUnavailableError, match="did not grant lease 'relay' within"):
        async with leases.kept("relay", "a", 0.3, lost=lambda: None):
            pass
    store.answers.set()
    async with leases.kept("relay", "a", 0.3, lost=lambda: None):  # it was its own all the time
        assert await leases.holder("relay") == "a"


class Torn(MemoryEventStore):
    """A store that fails in a way that nobody has thought of."""

    failure: BaseException | None = None

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if self.failure is not None:
            raise self.failure
        return await super().append(stream_name, events, expected_version=expected_version)


@pytest.mark.parametrize("failure", [RuntimeError("torn"), asyncio.CancelledError()], ids=repr)
async def test_kept_tells_whatever_ends_the_renewing(clock: Clock, failure: BaseException) -> None:
    store = Torn()
    lost = asyncio.Event()
    async with Leases(store, clock=clock).kept("relay", "a", 0.3, lost=lost.set):
        store.failure = failure
        async with asyncio.timeout(10):
            await lost.wait()
        store.failure = None


class Slow(MemoryEventStore):
    """A store that takes nearly as long to fail as it is given."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.away = False

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if self.away:
            self.clock.now += 4.95
            raise StoreUnavailableError("the store is away")
        return await super().append(stream_name, events, expected_version=expected_version)


async def test_kept_tells_before_the_time_is_up_however_slowly_the_store_fails(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        await real(0)

    store = Slow(clock)
    told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    async with Leases(store, clock=clock).kept("relay", "a", 15, lost=lambda: told.set_result(clock.now)):
        begun, store.away = clock.now, True
        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with asyncio.timeout(10):
            assert await told < begun + 15
        store.away = False
