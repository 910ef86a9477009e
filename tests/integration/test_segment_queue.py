"""The queue of segments on the real RabbitMQ: two copies in one process, on one store in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import aio_pika
import msgspec
import pytest

from eventsourcing.errors import StoreUnavailableError
from monolith.application.hand_out import HandOut, SegmentMessage
from monolith.domain.jobs import SegmentJob, next_jobs
from monolith.messaging.connection import MessageBroker
from monolith.messaging.segment_queue import DEAD, QUEUE, RabbitSegmentQueue
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.unit.application.sharing_world import MESSAGE, OTHER, Leading, OneVideo, until_claimed


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def url(broker: RabbitMq) -> str:
    return broker.virtual_host()


@pytest.fixture
async def world() -> OneVideo:
    world = OneVideo()
    await world.begin()
    return world


class Copy:
    """One copy of the program, as far as the queue goes."""

    def __init__(self, world: OneVideo, url: str, owner: str, *, leads: bool, places: int = 2) -> None:
        self._world = world
        self.leading, self.alive = Leading(leads=leads), Leading(leads=True)
        self.buried: list[tuple[SegmentJob, str]] = []
        self.bury_errors: list[Exception] = []
        self.parting_seconds = 0.0
        """As long it takes to give the lease of who hands out back."""
        self.run: Callable[[SegmentJob], Awaitable[None]] = self.close
        self.owner = owner
        self.queue = RabbitSegmentQueue(
            MessageBroker(url),
            world.copy(owner=owner, run=lambda job: self.run(job), places=places),
            HandOut(lambda: world.now()),
            world.claims(owner),
            self._bury,
            handing_out=self._handing_out,
            alive=self.alive,
            lost_seconds=0.5,
        )

    @asynccontextmanager
    async def _handing_out(self) -> AsyncIterator[Leading]:
        try:
            yield self.leading
        finally:
            await asyncio.sleep(self.parting_seconds)

    async def close(self, job: SegmentJob) -> None:
        await self._world.close(job, self.owner)

    async def never(self, job: SegmentJob) -> None:
        """Not even claimed."""
        await asyncio.get_running_loop().create_future()

    async def for_ever(self, job: SegmentJob) -> None:
        await self._world.for_ever(job, self.owner)

    async def _bury(self, job: SegmentJob, why: str) -> None:
        if self.bury_errors:
            raise self.bury_errors.pop()
        self.buried.append((job, why))

    async def offer(self) -> None:
        video = await self._world.streams.load(MESSAGE.video_id)
        jobs = [job for job in next_jobs(video) if isinstance(job, SegmentJob)]
        self.queue.offer(video, jobs)

    async def queue_is_there(self, url: str) -> None:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aio_pika.exceptions.AMQPError):
                    await left_in(url, DEAD)
                    await left_in(url)
                    return
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Copy]:
        await self._world.live(self.owner)
        task = asyncio.create_task(self.queue.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=60)
            assert task.cancelled(), asyncio.all_tasks()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


async def put(url: str, body: bytes, queue: str = QUEUE) -> None:
    async with channel_to(url) as channel:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue, mandatory=True)


async def left_in(url: str, queue: str = QUEUE) -> int:
    async with channel_to(url) as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def test_copies_do_what_the_leader_hands_out(world: OneVideo, url: str) -> None:
    async with (
        Copy(world, url, "me", leads=True).running() as leader,
        Copy(world, url, "other", leads=False).running(),
    ):
        await leader.offer()
        await until(lambda: len(world.done) == 2)
    assert set(world.done) == {MESSAGE.job, OTHER.job}
    assert await left_in(url) == 0


async def test_a_copy_that_leads_not_hands_nothing_out(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=False).running() as copy:
        await copy.offer()
        await asyncio.sleep(1)
        assert world.done == []
        await copy.leading.set(leads=True)
        await until(lambda: len(world.done) == 2)


async def test_a_copy_that_stops_gives_back_at_once_and_another_goes_on(world: OneVideo, url: str) -> None:
    leader, other = Copy(world, url, "me", leads=True), Copy(world, url, "other", leads=False)
    leader.run = leader.for_ever
    async with leader.running():
        await leader.offer()
        await until_claimed(world)
        await until_claimed(world, OTHER)
    assert await left_in(url) == 2
    async with other.running():
        await until(lambda: len(world.done) == 2)


async def test_a_copy_that_is_taken_for_dead_works_no_more_until_it_lives(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=True).running() as copy:
        copy.run = copy.for_ever
        await copy.offer()
        await until_claimed(world)
        await copy.alive.set(leads=False)
        await until(lambda: copy.queue.running() == [])
        await asyncio.sleep(0.5)
        assert copy.queue.running() == []
        copy.run = copy.close
        await copy.alive.set(leads=True)
        await until(lambda: len(world.done) == 2)


async def test_a_copy_that_lives_again_before_it_has_let_go_works_all_the_same(
    world: OneVideo, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does at the end of the first connection does not reach the second."""
    monkeypatch.setattr("monolith.messaging.segment_queue._CLOSE_SECONDS", 0.2)
    async with Copy(world, url, "me", leads=True).running() as copy:
        await copy.queue_is_there(url)
        copy.parting_seconds = 1.5
        await copy.alive.set(leads=False)
        await asyncio.sleep(0.1)
        await copy.alive.set(leads=True)
        await asyncio.sleep(2.5)
        copy.parting_seconds = 0.0
        await copy.offer()
        await until(lambda: len(world.done) == 2)
    assert await left_in(url, DEAD) == 0 and copy.buried == []


async def test_the_broker_may_be_killed_and_nothing_is_done_twice(
    world: OneVideo, broker: RabbitMq, url: str
) -> None:
    go_on = asyncio.Event()
    async with Copy(world, url, "me", leads=True).running() as copy:

        async def slowly(job: SegmentJob) -> None:
            await go_on.wait()
            await world.close(job)

        copy.run = slowly
        await copy.offer()
        await until(lambda: len(copy.queue.running()) == 2)
        await asyncio.to_thread(broker.kill)
        broker.start()
        await broker.until_ready()
        go_on.set()
        await until(lambda: len(world.done) == 2)
        async with asyncio.timeout(60):
            while await left_in(url):
                await asyncio.sleep(0.1)
    assert sorted(job.segment for job in world.done) == [0, 1]


async def test_what_was_lost_is_put_in_again(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=True).running() as leader:
        leader.run = leader.never
        await leader.offer()
        await until(lambda: len(leader.queue.running()) == 2)
        leader.run = leader.close
        for job in leader.queue.running():
            leader.queue.cancel(job)  # nobody has claimed it, and it is not in the queue any more
        await until(lambda: len(world.done) == 2)


async def test_what_waits_in_the_queue_is_not_put_in_again(
    world: OneVideo, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.messaging.segment_queue._LOOK_SECONDS", 0.1)
    async with Copy(world, url, "me", leads=True, places=1).running() as copy:
        copy.run = copy.for_ever
        await copy.offer()
        await until_claimed(world)
        await asyncio.sleep(2)  # as long as four losses
        assert await left_in(url) == 1
        copy.run = copy.close
        copy.queue.cancel(MESSAGE.job)
        await until(lambda: OTHER.job in world.done)


async def test_more_is_put_in_when_a_full_queue_has_been_emptied(world: OneVideo, url: str) -> None:
    """It was full when this copy began to hand out."""
    async with Copy(world, url, "me", leads=False, places=1).running() as copy:
        copy.run = copy.for_ever
        await copy.queue_is_there(url)
        for after in range(40):
            await put(url, msgspec.json.encode(msgspec.structs.replace(MESSAGE, after=after)))
        await until_claimed(world)
        await copy.offer()
        await copy.leading.set(leads=True)
        await asyncio.sleep(1)
        copy.run = copy.close
        copy.queue.cancel(MESSAGE.job)
        await until(lambda: OTHER.job in world.done)


async def test_a_queue_that_was_deleted_is_made_again_with_what_was_in_it(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "other", leads=True).running() as leader:
        leader.run = leader.never
        await leader.offer()
        await until(lambda: len(leader.queue.running()) == 2)
        async with channel_to(url) as channel:
            await channel.queue_delete(QUEUE)
        leader.run = leader.close
        for job in leader.queue.running():
            leader.queue.cancel(job)
        await until(lambda: len(world.done) == 2)


async def test_dead_letters_are_buried_unless_somebody_is_at_them(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=True).running() as copy:
        await copy.queue_is_there(url)
        await world.live("other")
        await world.claim("other", OTHER.job)
        for body in (b"no segment", msgspec.json.encode(OTHER), msgspec.json.encode(MESSAGE)):
            await put(url, body, DEAD)
        await until(lambda: bool(copy.buried))
        assert [job for job, _ in copy.buried] == [MESSAGE.job]
        assert "20 times" in copy.buried[0][1]
    assert await left_in(url, DEAD) == 0


async def test_a_dead_letter_waits_for_the_event_store(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=True).running() as copy:
        copy.bury_errors.append(StoreUnavailableError("away"))
        await copy.queue_is_there(url)
        await put(url, msgspec.json.encode(MESSAGE), DEAD)
        await until(lambda: bool(copy.buried))
    assert copy.bury_errors == []
    assert await left_in(url, DEAD) == 0


async def test_what_is_no_segment_goes_to_the_dead_letters(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=False).running() as copy:
        await copy.queue_is_there(url)
        await put(url, b"no segment")
        async with asyncio.timeout(30):
            while not await left_in(url, DEAD):
                await asyncio.sleep(0.1)


async def test_what_is_delivered_too_often_is_a_dead_letter(world: OneVideo, url: str) -> None:
    async with Copy(world, url, "me", leads=False).running() as copy:
        await copy.queue_is_there(url)
    await put(url, msgspec.json.encode(MESSAGE))
    async with channel_to(url) as channel:
        queue = await channel.get_queue(QUEUE, ensure=False)
        deliveries = 0
        async with asyncio.timeout(60):
            while not await left_in(url, DEAD):
                if (message := await queue.get(fail=False)) is not None:
                    deliveries += 1
                    await message.nack(requeue=True)
    assert deliveries == 21
    async with channel_to(url) as channel:
        letter = await (await channel.get_queue(DEAD, ensure=False)).get()
        assert letter is not None
        assert msgspec.json.decode(letter.body, type=SegmentMessage) == MESSAGE
