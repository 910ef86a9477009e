"""Connections to RabbitMQ: made again when they are lost, with what the broker's absence means to those who use them.

Each user has a connection of its own, under a name, and one way to use it:

    async def work(rabbit: RabbitBroker) -> None:
        jobs = RabbitQueue("jobs.v1", queue_type=QueueType.QUORUM, durable=True)

        @rabbit.subscriber(jobs, channel=Channel(prefetch_count=4), ack_policy=AckPolicy.MANUAL)
        async def take(message: RabbitMessage) -> None:     # of faststream.rabbit; .body: bytes, as they came
            if message.raw_message.redelivered: ...
            await message.ack()                   # or nack(requeue=True), or reject()

        await rabbit.start()                      # declares, and begins to consume
        await asyncio.Event().wait()

    await message_broker.keep("jobs", work)       # until it is cancelled

Rules:
- A lost connection ends what is done by it: `work` is cancelled, and called again with a new `RabbitBroker` when the
  broker is back. It declares and subscribes anew; nothing is repaired behind its back.
- Handlers of deliveries are tasks of their own: they go on when the connection is lost. Their acks fail then with one
  of `BROKER_ERRORS`, and the broker delivers again (`redelivered`) to whoever is there.
- Where a consumer's queue was deleted, the connection is made anew, too (name it in `consumes`).
- A broker that is short of memory or of disk hears no more of connections that publish. That is told as a trouble; such
  a connection is kept, and who publishes, or waits in `until_it_listens`, waits: what is in hand is not given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiormq.exceptions import InvalidFrameError
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage

from monolith.messaging.rabbit import BROKER_ERRORS, BrokerAwayError, Rabbit

CONNECT_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 10
"""A peer that is silent for so long is gone. The URL may say otherwise (`?heartbeat=`)."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_STEADY_SECONDS: Final = 10.0
"""A connection that held for so long was a good one: the next pause is a short one again."""
_CLOSE_SECONDS: Final = 5.0
_INSIST_SECONDS: Final = 2.0
"""Work that is cancelled may take so long to clean up before it is cancelled again."""
_LOOK_SECONDS: Final = 10.0
_BLOCK_SECONDS: Final = 1.0
"""As often it is asked whether the broker still listens."""

logger = logging.getLogger(__name__)

Work: TypeAlias = Callable[[RabbitBroker], Awaitable[None]]


class MessageBroker:
    """RabbitMQ at `url` (`amqp://USER:PASSWORD@HOST:5672/VHOST`, `amqps://…`); nothing is connected before `keep`."""

    def __init__(self, url: str) -> None:
        self._url = _with_heartbeat(url)
        self._shown = _without_password(url)
        self._troubles: dict[str, str] = {}
        self._connected: dict[str, bool] = {}
        self._troubled_since: dict[str, float] = {}
        self.lost = 0
        """Connections that ended by themselves."""

    @property
    def shown(self) -> str:
        """Its address, for users."""
        return self._shown

    @property
    def trouble(self) -> str | None:
        """Why messages cannot be sent or taken now, for users; None while all connections that are wanted are there."""
        return next(iter(self._troubles.values()), None)

    def lasting_trouble(self, seconds: float) -> str | None:
        """`trouble` that has been there for so long, or has come back each time at once."""
        now = time.monotonic()
        lasting = (why for name, why in self._troubles.items() if now - self._troubled_since[name] >= seconds)
        return next(lasting, None)

    @property
    def connections(self) -> Mapping[str, bool]:
        """Which are wanted, and whether they are there."""
        return self._connected

    async def keep(
        self,
        name: str,
        work: Work,
        *,
        channel: Channel | None = None,
        consumes: str | None = None,
        graceful_seconds: float | None = None,
    ) -> None:
        """Do `work` with a connection named `name`, and with another each time it is lost, until `work` returns.

        `channel`: settings of the one that publishes. `consumes`: a queue that is consumed by it, to be watched.
        `graceful_seconds`: handlers of deliveries may take so long to finish before the connection is closed.

        Raises what `work` raises, other than `BROKER_ERRORS`.
        """
        pause = _FIRST_PAUSE
        doing = asyncio.current_task()
        assert doing is not None
        asked_before = doing.cancelling()
        self._away(name, "it is being connected to")
        try:
            while True:
                begun = asyncio.get_running_loop().time()
                try:
                    async with self._connection(name, channel, consumes, graceful_seconds) as rabbit:
                        return await _until_done(work(rabbit))
                except BROKER_ERRORS as error:
                    self._away(name, _reason(error))
                    if doing.cancelling() > asked_before:  # it was cancelled when this happened
                        raise asyncio.CancelledError from error
                if asyncio.get_running_loop().time() - begun > _STEADY_SECONDS:
                    pause = _FIRST_PAUSE
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._connected.pop(name, None)
            self._troubles.pop(name, None)
            self._troubled_since.pop(name, None)

    @asynccontextmanager
    async def _connection(
        self, name: str, channel: Channel | None, consumes: str | None, graceful_seconds: float | None
    ) -> AsyncIterator[RabbitBroker]:
        """One connection, for as long as it holds: when it is lost, the body is cancelled. Raises `BROKER_ERRORS`."""
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def closed(_: object, error: BaseException | None) -> None:
            if not lost.done():
                lost.set_result(_reason(error) if error is not None else "it was closed")

        rabbit = Rabbit(
            self._url,
            timeout=CONNECT_SECONDS,
            reconnect_interval=3600.0,  # never: a lost connection is given up, and another one made
            on_close=[closed],
            default_channel=channel or Channel(),
            graceful_timeout=graceful_seconds,
            app_id="video-analysis",
            apply_types=False,
            decoder=_whole,
            logger=logger,
            log_level=logging.DEBUG,
        )
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await rabbit.connect()
            self._there(name)
            async with _ending_when_lost(lambda: self._watched(name, rabbit, lost, consumes)):
                yield rabbit
        except RuntimeError as error:
            if not lost.done():
                raise
            raise BrokerAwayError(
                lost.result()
            ) from error  # how drivers say that something is closed already
        finally:
            lost.cancel()
            await _close(rabbit, (graceful_seconds or 0.0) + _CLOSE_SECONDS)

    async def _watched(
        self, name: str, rabbit: Rabbit, lost: asyncio.Future[str], consumes: str | None
    ) -> str:
        """Why the connection is of no use any more, when it is not."""
        listening = asyncio.create_task(self._watch_listening(name, rabbit), name="whether RabbitMQ listens")
        ends: tuple[asyncio.Future[Any], ...] = (lost, listening)
        unanswered = 0
        try:
            while True:
                await asyncio.wait(ends, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if lost.done():
                    return lost.result()
                if listening.done():
                    listening.result()
                if consumes is None or not await rabbit.listens():
                    continue
                try:
                    if not await _is_consumed(rabbit, consumes):
                        return f"nobody consumes the queue {consumes}: it was deleted, or does not answer"
                    unanswered = 0
                except TimeoutError:  # once: it may just have ceased to listen
                    unanswered += 1
                    if unanswered > 1:
                        raise
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def _watch_listening(self, name: str, rabbit: Rabbit) -> None:
        while True:
            await asyncio.sleep(_BLOCK_SECONDS)
            self._note(name, listens=await rabbit.listens())

    def _note(self, name: str, *, listens: bool) -> None:
        """Of a connection that is there."""
        if listens:
            self._troubled_since.pop(name, None)
            if self._troubles.pop(name, None) is not None:
                logger.info("RabbitMQ at %s takes messages again: %s", self._shown, name)
            return
        self._trouble(
            name,
            f"RabbitMQ at {self._shown} takes no messages now ({name}): it is short of memory or of room on its disk",
        )

    def _trouble(self, name: str, trouble: str) -> None:
        if self._troubles.get(name) != trouble and name in self._connected:
            logger.warning("%s", trouble)
        self._troubled_since.setdefault(name, time.monotonic())
        self._troubles[name] = trouble

    def _there(self, name: str) -> None:
        if not self._connected.get(name):
            logger.info("connected to RabbitMQ at %s: %s", self._shown, name)
        self._connected[name] = True
        self._troubles.pop(name, None)

    def _away(self, name: str, reason: str) -> None:
        self._trouble(name, f"RabbitMQ at {self._shown} cannot be used ({name}): {reason}")
        if self._connected.get(name):
            self.lost += 1
        self._connected[name] = False


async def _whole(message: RabbitMessage) -> RabbitMessage:
    """What handlers are given. Bodies are decoded by those who know what they are."""
    return message


@asynccontextmanager
async def _ending_when_lost(watch: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
    """Cancel the body when `watch` says why; BrokerAwayError is raised then, or what the body made of it."""
    doing = asyncio.current_task()
    assert doing is not None
    asked_before = doing.cancelling()
    reason: str | None = None
    over = False

    async def wait() -> None:
        nonlocal reason
        try:
            why = await watch()
        except BROKER_ERRORS as error:
            why = _reason(error)
        if not over:
            reason = why
            doing.cancel()

    waiting = asyncio.create_task(wait(), name="connection to RabbitMQ")
    try:
        yield
    except asyncio.CancelledError:
        if reason is None or doing.cancelling() > asked_before + 1:
            raise
        raise BrokerAwayError(reason) from None
    finally:
        over = True
        if reason is not None:
            doing.uncancel()
        await _end(waiting)


async def _until_done(work: Awaitable[None]) -> None:
    """Raises what it raises. When this is cancelled, the work is, until it ends."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        with contextlib.suppress(asyncio.CancelledError):
            await _end(task)
        if not task.cancelled():
            task.result()
        raise
    task.result()


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel it, and again where it goes on: the driver gives its requests their deadlines by `asyncio.wait_for`, which
    forgets a cancellation that comes together with the answer (Python before 3.12). A cancellation of this is passed on
    to the task, and raised when that has ended."""
    asked: asyncio.CancelledError | None = None
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait([task], timeout=_INSIST_SECONDS)
        except asyncio.CancelledError as error:
            asked = error
    if asked is not None:
        raise asked


async def _is_consumed(rabbit: RabbitBroker, queue: str) -> bool:
    """A server may take a queue away, and its consumers wait for ever."""
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await rabbit.connect()
        channel = await connection.channel()
        try:
            found = await channel.declare_queue(queue, passive=True)
            return bool(found.declaration_result.consumer_count)
        finally:
            await channel.close()


async def _close(rabbit: RabbitBroker, seconds: float) -> None:
    """A connection that is gone may not be closed in order any more."""
    with contextlib.suppress(*BROKER_ERRORS, RuntimeError):
        async with asyncio.timeout(seconds):
            await rabbit.stop()


def _with_heartbeat(url: str) -> str:
    parts = urlsplit(url)
    query: dict[str, Any] = {"heartbeat": HEARTBEAT_SECONDS, **dict(parse_qsl(parts.query))}
    return parts._replace(query=urlencode(query)).geturl()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{port}"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "it does not answer in time"
    if isinstance(error, InvalidFrameError):  # the driver keeps to itself what the broker said
        return "it refused the virtual host of the address: there is none of that name, or the user has no rights on it"
    return str(error) or type(error).__name__
