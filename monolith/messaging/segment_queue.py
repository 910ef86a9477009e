"""Segments of files in a queue of RabbitMQ that all copies of the program take from.

- One copy hands out, under a lease that it holds only while it has a connection. It puts open segments in, as many as
  are taken out, videos in turn, with a confirm, under ids that are the same on a retry. What is not there any more and
  nobody is doing is put in again.
- Each copy takes as many as it has places, and acknowledges each when its end is recorded.
- A copy that dies, or loses its connection, gives back what it had: the broker delivers it again. One that shuts down
  gives back at once. One that the others take for dead (its own lease is lost) does so, too, until it lives again.
- What was delivered too often to come to an end is a dead letter: who hands out records it as a failure for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel
from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from eventsourcing.errors import EventStoreError
from monolith.application.hand_out import HandOut, SegmentMessage
from monolith.application.leadership import Leadership
from monolith.application.segment_claims import SegmentClaims
from monolith.application.shared_segments import SharedSegments
from monolith.domain.jobs import SegmentJob
from monolith.domain.video import Video
from monolith.messaging.connection import MessageBroker
from monolith.messaging.rabbit import BROKER_ERRORS, until_it_listens

Bury: TypeAlias = Callable[[SegmentJob, str], Awaitable[None]]

QUEUE: Final = "video-analysis.segments.v1"
DEAD: Final = "video-analysis.segments.dead.v1"
_DELIVERY_LIMIT: Final = 20
_MOST_READY: Final = 32
"""Messages that wait to be taken: few, so that a new video's turn comes soon."""
_FULL_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 2.0
_LOST_SECONDS: Final = 30.0
"""What was put in so long ago, and is neither there nor held, is lost."""
_LONGEST_WAIT: Final = 600.0
"""What was put in so long ago, and is not held, may be lost, even where others wait."""
_ANSWER_SECONDS: Final = 10.0
_GIVE_BACK_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 2.0
"""A broker that blocks a connection does not answer; what it delivers then is nacked."""
_CLOSE_SECONDS: Final = 5.0

_SEGMENTS: Final = RabbitQueue(
    QUEUE,
    queue_type=QueueType.QUORUM,
    durable=True,
    arguments={
        "x-delivery-limit": _DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    },
)
_PUBLISHING: Final = Channel(on_return_raises=True)
_DEAD_LETTERS: Final = RabbitQueue(DEAD, queue_type=QueueType.QUORUM, durable=True)

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class RabbitSegmentQueue:
    """The `SegmentQueue` port. Run it as one task; its failure is its owner's to see.

    `alive`: whether this copy counts as one that lives. `handing_out`: within it this copy is the one that hands out,
    if there is no other. `bury`: record that the segment cannot be done, and why.
    """

    def __init__(
        self,
        broker: MessageBroker,
        work: SharedSegments,
        hand_out: HandOut,
        claims: SegmentClaims,
        bury: Bury,
        *,
        handing_out: Callable[[], AbstractAsyncContextManager[Leadership]],
        alive: Leadership,
        lost_seconds: float = _LOST_SECONDS,
    ) -> None:
        self._broker = broker
        self._work = work
        self._hand_out = hand_out
        self._claims = claims
        self._bury = bury
        self._handing_out = handing_out
        self._led = False
        self._alive = alive
        self._lost_seconds = lost_seconds
        self._news = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        self._takes = False
        self._rabbit: RabbitBroker | None = None
        self._stop_taking: Callable[[], Awaitable[None]] | None = None

    def offer(self, video: Video, jobs: Sequence[SegmentJob]) -> None:
        self._hand_out.offer(video, jobs)
        self._news.set()

    def running(self) -> list[SegmentJob]:
        return self._work.running()

    def cancel(self, job: SegmentJob) -> None:
        self._work.cancel(job)

    async def until_ended(self, jobs: Iterable[SegmentJob]) -> None:
        await self._work.until_ended(jobs)

    async def run(self) -> None:
        """Take and hand out segments until cancelled; then what is being done is given back."""
        while True:
            await self._alive.wait_for(True)
            serving = asyncio.create_task(
                self._broker.keep("segments", self._serve, channel=_PUBLISHING, consumes=QUEUE),
                name="queue of segments",
            )
            dead = asyncio.create_task(self._alive.wait_for(False), name="life of this copy")
            try:
                await asyncio.wait([serving, dead], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._takes = False
                dead.cancel()
                await self._give_back()
                await _ended(serving)
            if not serving.cancelled():
                serving.result()

    async def _give_back(self) -> None:
        """What is being done ends now, and goes back into the queue, to other copies."""
        if self._stop_taking is not None:
            await _answer(self._stop_taking(), _STOP_SECONDS)
        if handlers := set(self._handlers):
            logger.info("%d segments are given back to the queue", len(handlers))
            for handler in handlers:
                handler.cancel()
            await asyncio.wait(handlers, timeout=_GIVE_BACK_SECONDS)

    async def _serve(self, rabbit: RabbitBroker) -> None:
        """With one connection, for as long as it holds. What has begun goes on when it is lost, until it is done or
        another copy claims it."""
        self._rabbit, self._takes, self._led = rabbit, True, False
        try:
            await self._begin_to_take(rabbit)
            connection = await rabbit.connect()
            async with connection.channel() as channel, self._handing_out() as leadership:
                while True:
                    await until_it_listens(rabbit)
                    await self._look(channel, leadership)
        finally:
            self._takes, self._stop_taking = False, None
            self._work.cancel_idle()

    async def _begin_to_take(self, rabbit: RabbitBroker) -> None:
        places = Channel(prefetch_count=self._work.places)

        @rabbit.subscriber(_SEGMENTS, channel=places, ack_policy=AckPolicy.MANUAL)
        async def take(message: RabbitMessage) -> None:
            self._take(message.raw_message)

        await rabbit.connect()
        await rabbit.declare_queue(_DEAD_LETTERS)
        await rabbit.start()
        self._stop_taking = rabbit.subscribers[0].stop
        logger.info("segments are taken from the queue, %d at a time", self._work.places)

    def _take(self, message: AbstractIncomingMessage) -> None:
        handler = asyncio.create_task(self._handle(message), name="segment of the queue")
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        try:
            if not self._takes:
                return await _answer(message.nack(requeue=True))
            await self._do(message)
            await _answer(message.ack())
        except asyncio.CancelledError:
            await _answer(message.nack(requeue=True))
            raise
        except msgspec.DecodeError as error:
            logger.error("what came as a segment is none: %s", error)
            await _answer(message.reject(requeue=False))
        except Exception:
            logger.exception("a segment was not done; it is delivered again")
            await _answer(message.nack(requeue=True))

    async def _do(self, message: AbstractIncomingMessage) -> None:
        segment = msgspec.json.decode(message.body, type=SegmentMessage)
        left = await self._work.do(segment, redelivered=bool(message.redelivered))
        if left is not None:
            assert self._rabbit is not None
            await self._publish(left)

    async def _look(self, channel: AbstractRobustChannel, leadership: Leadership) -> None:
        """One look at what there is to be handed out; it ends when there may be more."""
        full = False
        if leadership.leads:
            if not self._led:
                self._hand_out.forget()
            full = not await self._lead(channel, leadership)
        self._led = leadership.leads
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FULL_SECONDS if full else _LOOK_SECONDS):
                await self._news.wait()
        if full:
            await asyncio.sleep(_FULL_SECONDS / 4)
        self._news.clear()

    async def _lead(self, channel: AbstractRobustChannel, leadership: Leadership) -> bool:
        """Whether all is put in that is to be done."""
        try:
            await self._bury_dead_letters(channel)
            await self._look_for_lost(channel)
        except EventStoreError as error:
            logger.warning("nobody can tell which segments are held: %s", error)
        room = 0
        while (message := self._hand_out.next()) is not None and leadership.leads:
            if room == 0 and (room := await self._room(channel)) <= 0:
                return False
            await self._publish(message)
            self._hand_out.put(message)
            room -= 1
        return True

    async def _room(self, channel: AbstractRobustChannel) -> int:
        ready = await _ready(channel)
        return 0 if ready is None else _MOST_READY - ready

    async def _publish(self, message: SegmentMessage) -> None:
        """Returns when the broker has it. Raises `BROKER_ERRORS`."""
        assert self._rabbit is not None
        await self._rabbit.publish(
            msgspec.json.encode(message),
            queue=QUEUE,
            message_id=str(message.message_id),
            correlation_id=message.video_id,
            content_type="application/json",
            persist=True,
            mandatory=True,
            timeout=_ANSWER_SECONDS,
        )

    async def _look_for_lost(self, channel: AbstractRobustChannel) -> None:
        """What was put in, and is neither in the queue nor held by a copy that lives, is put in again."""
        now = self._claims.now()
        old = [out for out in self._hand_out.out() if out.at < now - self._lost_seconds]
        if not old:
            return
        empty = await _ready(channel) == 0
        for message, at in old:
            if empty or at < now - _LONGEST_WAIT:
                held, attempt = await self._claims.held(message.job, message.after)
                if held:
                    self._hand_out.seen(message)
                else:
                    logger.warning(
                        "segment %d of run %s is put into the queue again", message.segment, message.run_id
                    )
                    self._hand_out.lost(message, attempt)

    async def _bury_dead_letters(self, channel: AbstractRobustChannel) -> None:
        queue = await channel.get_queue(DEAD, ensure=False)
        while (letter := await _in_time(queue.get(fail=False))) is not None:
            try:
                await self._read_last_words(letter)
            except BaseException:
                await _answer(letter.nack(requeue=True))
                raise
            await letter.ack()

    async def _read_last_words(self, letter: AbstractIncomingMessage) -> None:
        try:
            message = msgspec.json.decode(letter.body, type=SegmentMessage)
        except msgspec.DecodeError:
            logger.error("a dead letter is no segment: it is thrown away")
            return
        held, _ = await self._claims.held(message.job, message.after)
        if not held:
            await self._bury(message.job, _WHY_BURIED)


_WHY_BURIED: Final = (
    f"{_DELIVERY_LIMIT} times a copy of the program took this segment and did not come to its end: it may be that the "
    "segment ends the program; look into the copies' logs, then have the video analysed again"
)


_NOT_ANSWERED: Final[tuple[type[Exception], ...]] = (*BROKER_ERRORS, RuntimeError)


async def _ready(channel: AbstractRobustChannel) -> int | None:
    """How many segments wait to be taken; None: not known. A broker that is hard pressed says that there are none, nor
    consumers, while this copy consumes."""
    # Else the driver gives the broker's first answer for ever.
    queue = await _in_time(channel.declare_queue(QUEUE, passive=True, robust=False))
    told = queue.declaration_result
    return told.message_count if told.consumer_count else None


async def _in_time(request: Awaitable[_T]) -> _T:
    """Raises TimeoutError. The driver's own deadlines may forget a cancellation (see `connection`)."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        return await request


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel it until it has ended: what it waits for on its way out may be away."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)


async def _answer(answer: Awaitable[Any], seconds: float = _ANSWER_SECONDS) -> None:
    """To a delivery; where its connection is lost, the broker delivers it again anyway."""
    try:
        async with asyncio.timeout(seconds):
            await answer
    except _NOT_ANSWERED as error:
        logger.debug("a delivery could not be answered: %s", error)
