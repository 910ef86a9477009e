from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from eventsourcing.events import RecordedEvent
from eventsourcing.projection import DependsOnParkedError, ProjectionRunner, RunnerState
from eventsourcing.store import SubscriptionItem
from eventsourcing.versions import ANY
from tests.contract.helpers import WAIT, new, put, texts

Fails = Callable[[list[RecordedEvent]], Exception | None]


def never(events: list[RecordedEvent]) -> None:
    return None


def on(*poison: str) -> Fails:
    """Fails where one of these texts is in the batch."""

    def fails(events: list[RecordedEvent]) -> Exception | None:
        found = [text for text in texts(events) if text in poison]
        return KeyError(found[0]) if found else None

    return fails


class Rows:
    """A projection over plain lists, each call all or none, as a database would have it."""

    name = "rows"

    def __init__(self, *, prefixes: Sequence[str] = (), fails: Fails = never) -> None:
        self.prefixes = prefixes
        self.fails = fails
        self.rows: list[str] = []
        self.parked: list[tuple[str, BaseException]] = []
        self.position: int | None = None
        self.batches: list[int] = []

    async def apply(self, events: list[RecordedEvent]) -> None:
        self.batches.append(len(events))
        await asyncio.sleep(0)
        if (error := self.fails(events)) is not None:
            raise error
        self.rows += texts(events)
        self._advance(events[-1])

    async def checkpoint(self) -> int | None:
        return self.position

    async def park(self, event: RecordedEvent, error: BaseException) -> None:
        self.parked.append((event.data.decode(), error))
        self._advance(event)

    def _advance(self, event: RecordedEvent) -> None:
        assert self.position is None or event.commit_position > self.position
        self.position = event.commit_position


class RememberingRows(Rows):
    """Knows after a restart which streams have a parked event."""

    def __init__(self, streams: Sequence[str]) -> None:
        super().__init__()
        self.streams = streams

    async def parked_streams(self) -> Sequence[str]:
        return self.streams


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def running(
    store: MemoryEventStore, rows: Rows, batch_size: int = 50
) -> AsyncIterator[ProjectionRunner]:
    async with ProjectionRunner(store, rows, batch_size=batch_size, sleep=no_sleep) as runner:
        yield runner


async def filled(*pairs: tuple[str, str]) -> MemoryEventStore:
    store = MemoryEventStore()
    for stream_name, text in pairs:
        await put(store, stream_name, text)
    return store


async def until_head(store: MemoryEventStore, runner: ProjectionRunner) -> None:
    head = await store.head()
    assert head is not None
    await runner.wait_for(head, WAIT)


async def test_history_then_what_comes() -> None:
    store = await filled(*[("a-1", str(n)) for n in range(20)])
    rows = Rows()
    async with running(store, rows, batch_size=8) as runner:
        await until_head(store, runner)
        assert rows.rows == [str(n) for n in range(20)]
        assert max(rows.batches) == 8
        await runner.wait_for(await put(store, "b-1", "live"), WAIT)
        assert rows.rows[-1] == "live"
        assert await runner.lag() == 0
        assert runner.running
    assert runner.state is RunnerState.STOPPED
    assert not runner.running


async def test_it_goes_on_after_its_checkpoint() -> None:
    store = await filled(("a-1", "0"), ("a-1", "1"))
    rows = Rows()
    async with running(store, rows) as runner:
        await until_head(store, runner)
    await put(store, "a-1", "2")
    async with running(store, rows) as runner:
        await until_head(store, runner)
    assert rows.rows == ["0", "1", "2"]


async def test_lag_counts_what_is_not_applied() -> None:
    store = await filled(("a-1", "0"), ("a-1", "1"), ("b-1", "2"))
    rows = Rows(prefixes=["a-"])
    runner = ProjectionRunner(store, rows)
    assert await runner.lag() == 2
    async with runner:
        await until_head(store, runner)
        assert await runner.lag() == 0
    assert await ProjectionRunner(MemoryEventStore(), rows).lag() == 0


async def test_a_poisonous_event_is_found_and_parked() -> None:
    store = await filled(*[(f"s-{n}", str(n)) for n in range(40)])
    rows = Rows(fails=on("23"))
    async with running(store, rows) as runner:
        await until_head(store, runner)
        assert rows.rows == [str(n) for n in range(40) if n != 23]
        [(text, error)] = rows.parked
        assert text == "23"
        assert isinstance(error, KeyError)
        assert runner.parked == 1
        assert runner.parked_streams == {"s-23"}
        assert runner.last_error is error
        assert len(rows.batches) < 20


async def test_what_depends_on_a_parked_event_is_parked_too() -> None:
    store = await filled(("a-1", "bad"), ("b-1", "1"), ("a-1", "2"), ("b-1", "3"), ("a-1", "4"))
    rows = Rows(fails=on("bad"))
    async with running(store, rows) as runner:
        await until_head(store, runner)
        await runner.wait_for(await put(store, "a-1", "5"), WAIT)
        await runner.wait_for(await put(store, "b-1", "6"), WAIT)
    assert rows.rows == ["1", "3", "6"]
    assert [text for text, _ in rows.parked] == ["bad", "2", "4", "5"]
    assert all(isinstance(error, DependsOnParkedError) for _, error in rows.parked[1:])
    assert runner.parked == 4


async def test_parked_streams_are_remembered_where_the_projection_does() -> None:
    store = await filled(("a-1", "1"), ("b-1", "2"))
    rows = RememberingRows(["a-1"])
    async with running(store, rows) as runner:
        await until_head(store, runner)
    assert rows.rows == ["2"]
    assert [text for text, _ in rows.parked] == ["1"]


EVENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=50, deadline=None)
@given(EVENTS, st.integers(1, 20))
def test_each_event_is_applied_or_parked_once_in_order(events: list[tuple[str, bool]], batch: int) -> None:
    asyncio.run(check_all_worked_off(events, batch))


async def check_all_worked_off(events: list[tuple[str, bool]], batch: int) -> None:
    store = await filled(*[(f"{name}-1", str(number)) for number, (name, _) in enumerate(events)])
    poison = {str(number) for number, (_, bad) in enumerate(events) if bad}
    rows = Rows(fails=on(*poison))
    async with running(store, rows, batch_size=batch) as runner:
        await until_head(store, runner)
    broken: set[str] = set()
    good, parked = list[str](), list[str]()
    for number, (name, bad) in enumerate(events):
        if bad:
            broken.add(name)
        (parked if name in broken else good).append(str(number))
    assert rows.rows == good
    assert [text for text, _ in rows.parked] == parked
    assert rows.position == await store.head()


async def test_transient_errors_are_tried_again_until_they_pass() -> None:
    store = await filled(("a-1", "0"), ("a-1", "1"))
    failures = iter([StoreUnavailableError("full"), OSError("busy"), TimeoutError()])
    rows = Rows(fails=lambda events: next(failures, None))
    states: list[RunnerState] = []

    async def sleep(seconds: float) -> None:
        states.append(runner.state)

    runner = ProjectionRunner(store, rows, sleep=sleep)
    async with runner:
        await until_head(store, runner)
    assert states == [RunnerState.RETRYING] * 3
    assert rows.rows == ["0", "1"]
    assert rows.parked == []


async def test_an_event_alone_gets_a_last_try() -> None:
    store = await filled(("a-1", "0"))
    failures = iter([KeyError("once")])
    rows = Rows(fails=lambda events: next(failures, None))
    async with running(store, rows) as runner:
        await until_head(store, runner)
    assert rows.rows == ["0"]
    assert runner.parked == 0


async def test_backoff_grows_and_is_bounded() -> None:
    store = await filled(("a-1", "0"))
    failures = iter([OSError()] * 12)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    runner = ProjectionRunner(store, Rows(fails=lambda events: next(failures, None)), sleep=sleep)
    async with runner:
        await until_head(store, runner)
    assert 0.025 <= pauses[0] <= 0.05
    assert 2.5 <= pauses[-1] <= 5.0
    assert len(pauses) == 12


async def test_stop_does_not_wait_for_a_long_backoff() -> None:
    store = await filled(("a-1", "0"))
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.sleep(3_600)

    runner = ProjectionRunner(store, Rows(fails=lambda events: OSError()), sleep=sleep)
    async with asyncio.timeout(WAIT):
        await runner.start()
        await asleep.wait()
        await runner.stop()
    assert runner.state is RunnerState.STOPPED


async def test_stop_lets_the_batch_in_hand_end() -> None:
    store = await filled(("a-1", "0"))
    begun, may_end = asyncio.Event(), asyncio.Event()

    class Slow(Rows):
        async def apply(self, events: list[RecordedEvent]) -> None:
            begun.set()
            await may_end.wait()
            await super().apply(events)

    rows = Slow()
    runner = ProjectionRunner(store, rows)
    await runner.start()
    await begun.wait()
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    may_end.set()
    async with asyncio.timeout(WAIT):
        await stopping
    assert rows.rows == ["0"]


async def test_stop_does_not_wait_for_ever() -> None:
    store = await filled(("a-1", "0"))
    begun = asyncio.Event()

    class Stuck(Rows):
        async def apply(self, events: list[RecordedEvent]) -> None:
            begun.set()
            await asyncio.sleep(3_600)

    runner = ProjectionRunner(store, Stuck())
    async with asyncio.timeout(WAIT):
        await runner.start()
        await begun.wait()
        await runner.stop(timeout=0.01)
    assert not runner.running


async def test_the_owner_sees_a_failure() -> None:
    class Unparkable(Rows):
        async def park(self, event: RecordedEvent, error: BaseException) -> None:
            raise ValueError("no room to park")

    store = await filled(("a-1", "bad"))
    runner = ProjectionRunner(store, Unparkable(fails=on("bad")), sleep=no_sleep)
    await runner.start()
    async with asyncio.timeout(WAIT):
        with pytest.raises(ValueError, match="no room to park"):
            await runner.wait()
    assert runner.state is RunnerState.FAILED
    with pytest.raises(ProjectionStoppedError, match="projection rows is failed") as raised:
        await runner.wait_for(1, WAIT)
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="no room"):
        await runner.stop()


async def test_wait_for_what_does_not_concern_it() -> None:
    store = await filled(("a-1", "0"))
    rows = Rows(prefixes=["a-"])
    async with running(store, rows) as runner:
        await until_head(store, runner)
        await runner.wait_for(await put(store, "b-1", "other"), WAIT)
    assert rows.rows == ["0"]


async def test_wait_for_before_the_start_and_out_of_time() -> None:
    store = await filled(("a-1", "0"))
    runner = ProjectionRunner(store, Rows())
    with pytest.raises(TimeoutError):
        await runner.wait_for(1, 0.01)
    waiting = asyncio.create_task(runner.wait_for(1, WAIT))
    await asyncio.sleep(0)
    async with runner:
        await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(WAIT):
                blocked = Rows(fails=lambda events: OSError())
                async with running(store, blocked) as other:
                    await other.wait_for(1, 0.02)


async def test_waiters_learn_of_a_stop() -> None:
    store = await filled(("a-1", "0"))
    runner = ProjectionRunner(store, Rows(fails=lambda events: OSError()))
    await runner.start()
    waiting = asyncio.create_task(runner.wait_for(1, WAIT))
    await asyncio.sleep(0.01)
    await runner.stop()
    with pytest.raises(ProjectionStoppedError, match="is stopped"):
        await waiting


async def test_a_closing_store_stops_it() -> None:
    store = await filled(("a-1", "0"))
    runner = ProjectionRunner(store, Rows())
    await runner.start()
    await until_head(store, runner)
    await store.close()
    async with asyncio.timeout(WAIT):
        await runner.wait()
    assert runner.state is RunnerState.STOPPED


async def test_it_starts_once_and_stops_without_a_start() -> None:
    store = MemoryEventStore()
    runner = ProjectionRunner(store, Rows())
    await runner.start()
    with pytest.raises(RuntimeError, match="started before"):
        await runner.start()
    await runner.stop()
    await runner.stop()
    idle = ProjectionRunner(store, Rows())
    await idle.stop()
    assert idle.state is RunnerState.STOPPED


async def test_read_your_writes_under_load() -> None:
    store = MemoryEventStore()
    rows = Rows()

    async def write(runner: ProjectionRunner, number: int) -> None:
        result = await store.append(f"s-{number}", [new(str(number))], expected_version=ANY)
        await runner.wait_for(result.commit_position, WAIT)
        assert str(number) in rows.rows

    async with running(store, rows) as runner, asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(write(runner, number))


class AwayStore(MemoryEventStore):
    """Cannot be followed the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.away = 1

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("away")
        return super().subscribe(after=after, prefixes=prefixes)


class StateRows(Rows):
    """Notes in which state of its runner it was called."""

    runner: ProjectionRunner

    def __init__(self) -> None:
        super().__init__()
        self.states: list[RunnerState] = []

    async def apply(self, events: list[RecordedEvent]) -> None:
        self.states.append(self.runner.state)
        await super().apply(events)


async def test_a_runner_whose_store_answers_again_no_longer_says_that_it_retries() -> None:
    store = AwayStore()
    await put(store, "a-1", "one")
    rows = StateRows()
    rows.runner = ProjectionRunner(store, rows, sleep=no_sleep)
    async with rows.runner:
        await until_head(store, rows.runner)
    assert rows.states == [RunnerState.CATCHING_UP]


class Exchangeable(Rows):
    """Rows of which another copy, built elsewhere, may take the place."""

    def __init__(self, *, fails: Fails = never) -> None:
        super().__init__(fails=fails)
        self.streams: list[str] = []

    async def parked_streams(self) -> Sequence[str]:
        return self.streams

    def become(self, other: Rows, streams: Sequence[str] = ()) -> None:
        self.rows, self.position, self.parked = list(other.rows), other.position, list(other.parked)
        self.streams = list(streams)


async def built(store: MemoryEventStore) -> Rows:
    """Rows of all that is stored by now."""
    rows = Rows()
    async with running(store, rows) as runner:
        await until_head(store, runner)
    return rows


async def test_nothing_is_applied_while_it_is_paused() -> None:
    store = await filled(("a-1", "0"))
    rows = Rows()
    async with running(store, rows) as runner:
        await until_head(store, runner)
        async with runner.paused():
            position = await put(store, "a-1", "1")
            waiting = asyncio.create_task(runner.wait_for(position, WAIT))
            await asyncio.sleep(0.02)
            assert rows.rows == ["0"]
            assert not waiting.done()
            assert runner.state is RunnerState.LIVE
        await waiting
        assert rows.rows == ["0", "1"]


async def test_another_read_model_goes_on_where_it_was_built_to() -> None:
    """What it has seen already is not applied again, also where the runner had it in its hands."""
    store = await filled(*[("a-1", str(n)) for n in range(20)])
    rows = Exchangeable()
    async with running(store, rows, batch_size=3) as runner:
        while not rows.batches:
            await asyncio.sleep(0)
        async with runner.paused():
            seen = len(rows.rows)
            await put(store, "a-1", "20")
            rows.become(await built(store))
        await until_head(store, runner)
        assert runner.position == await store.head()
        await runner.wait_for(await put(store, "a-1", "21"), WAIT)
    assert 0 < seen < 20
    assert rows.rows == [str(n) for n in range(22)]


async def test_who_waits_learns_of_what_the_other_read_model_has_seen() -> None:
    store = await filled(("a-1", "0"))
    rows = Exchangeable()
    async with running(store, rows) as runner:
        await until_head(store, runner)
        async with runner.paused():
            position = await put(store, "a-1", "1")
            rows.become(await built(store))
            waiting = asyncio.create_task(runner.wait_for(position, WAIT))
            await asyncio.sleep(0)
        await waiting
    assert rows.rows == ["0", "1"]


async def test_parked_streams_are_those_of_the_other_read_model() -> None:
    """One that was built by a better program may have parked nothing."""
    store = await filled(("a-1", "bad"))
    rows = Exchangeable(fails=on("bad"))
    async with running(store, rows) as runner:
        await until_head(store, runner)
        assert runner.parked_streams == {"a-1"}
        async with runner.paused():
            rows.become(await built(store))
        assert runner.parked_streams == frozenset()
        await runner.wait_for(await put(store, "a-1", "1"), WAIT)
    assert rows.rows == ["bad", "1"]


async def test_a_runner_that_retries_can_be_paused_and_helped() -> None:
    """The file that it fed was damaged; the one that takes its place is not."""
    store = await filled(("a-1", "0"), ("a-1", "1"))
    rows = Exchangeable(fails=lambda events: StoreUnavailableError("damaged"))
    async with running(store, rows) as runner:
        while runner.state is not RunnerState.RETRYING:
            await asyncio.sleep(0)
        async with runner.paused():
            rows.fails = never
            rows.become(await built(store))
        await runner.wait_for(await put(store, "a-1", "2"), WAIT)
    assert rows.rows == ["0", "1", "2"]
    assert rows.parked == []


async def test_it_asks_again_when_the_position_cannot_be_read_after_a_pause() -> None:
    store = await filled(("a-1", "0"))

    class Away(Exchangeable):
        failures = 0

        async def checkpoint(self) -> int | None:
            if self.failures:
                self.failures -= 1
                raise OSError("away")
            return await super().checkpoint()

    rows = Away()
    async with running(store, rows) as runner:
        await until_head(store, runner)
        async with runner.paused():
            await put(store, "a-1", "1")
            rows.become(await built(store))
            rows.failures = 2
        await runner.wait_for(await put(store, "a-1", "2"), WAIT)
    assert rows.rows == ["0", "1", "2"]
    assert rows.failures == 0


async def test_a_pause_that_fails_leaves_it_as_it_was() -> None:
    store = await filled(("a-1", "0"))
    rows = Rows()
    async with running(store, rows) as runner:
        await until_head(store, runner)
        with pytest.raises(KeyError, match="no"):
            async with runner.paused():
                raise KeyError("no")
        await runner.wait_for(await put(store, "a-1", "1"), WAIT)
    assert rows.rows == ["0", "1"]
