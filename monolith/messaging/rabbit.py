"""RabbitMQ's driver as the program uses it: what it raises, and the deadlines that it forgets."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aio_pika import RobustConnection
from aio_pika.abc import TimeoutType
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import ConfirmationFrameType
from faststream.rabbit import RabbitBroker
from pamqp.exceptions import PAMQPException

_ASK_SECONDS: Final = 0.1
"""Whether the broker listens is known here, without asking it."""


class BrokerAwayError(Exception):
    """RabbitMQ cannot be reached, or a connection to it was lost."""


BROKER_ERRORS: Final[tuple[type[Exception], ...]] = (
    AMQPError, PAMQPException, ChannelInvalidStateError, BrokerAwayError, OSError, TimeoutError,
)  # fmt: skip
"""What a publish, an ack or a declaration may raise when the broker is away, or refuses it."""


class _Connection(RobustConnection):
    """One that could not be made is closed at once, and not left for the collector of garbage, in whatever thread."""

    async def connect(self, timeout: TimeoutType = None) -> None:
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise


class Rabbit(RabbitBroker):
    """A publish whose confirmation can never come raises BrokerAwayError: the driver cancels it, as if its caller had
    been cancelled. `timeout` of a publish holds (FastStream 0.7 forgets it), and stands still while the broker says
    that it does not listen."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._connection_kwargs["connection_class"] = _Connection
        self._deadlines: dict[asyncio.Timeout, float] = {}

    async def publish(
        self, *arguments: Any, timeout: TimeoutType = None, **options: Any
    ) -> ConfirmationFrameType | None:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(timeout) as deadline:
            asked_before = task.cancelling()
            if timeout is not None:
                self._deadlines[deadline] = timeout
            try:
                return await super().publish(*arguments, **options)
            except asyncio.CancelledError as error:
                if task.cancelling() > asked_before:
                    raise
                raise BrokerAwayError(str(error) or "the connection was lost") from error
            finally:
                self._deadlines.pop(deadline, None)

    async def listens(self) -> bool:
        """Whether the broker takes messages of this connection; while it does not, deadlines move on."""
        if await listens(self):
            return True
        now = asyncio.get_running_loop().time()
        for deadline, seconds in self._deadlines.items():
            if not deadline.expired():
                deadline.reschedule(now + seconds)
        return False


async def until_it_listens(rabbit: RabbitBroker) -> None:
    """Until the broker hears what this connection asks: it says so when it is short of memory, or of disk."""
    connection = await rabbit.connect()
    if connection.transport is not None:
        await connection.transport.ready()


async def listens(rabbit: RabbitBroker) -> bool:
    """Whether it does now."""
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            await until_it_listens(rabbit)
    except TimeoutError:
        return False
    return True
