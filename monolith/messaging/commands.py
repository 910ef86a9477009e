"""Submission by message: StartAnalysis and CancelAnalysis from a queue, with replies.

Rules:
- The AMQP property `type` names the command, the body is its JSON. `message_id` is needed: what was done for it once is
  not done again, however often the broker delivers it or the sender sends it.
- The reply goes to `reply_to` with the `correlation_id` of the command (else its `message_id`); its `type` names it.
- A command is acknowledged when it is stored and answered. Where something is away that will come back (the event
  store, room on the disk) it waits here.
- What is no command goes to the dead letters, with the reason in a header; so does what cannot be done where there is
  no `reply_to`: nobody would ever know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import msgspec
from aio_pika.exceptions import PublishError
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage

from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from monolith.application.tracing import TRACEPARENT, NoTracing, Tracing
from monolith.domain.errors import DomainError, InvalidRequestError, VideoNotFoundError
from monolith.messaging.connection import MessageBroker
from monolith.messaging.names import COMMANDS_QUEUE, DEAD_COMMANDS_QUEUE, REASON_HEADER
from monolith.messaging.rabbit import BROKER_ERRORS
from monolith.messaging.schemas import (
    AnalysisCancelled,
    AnalysisStarted,
    CancelAnalysis,
    CommandRefused,
    StartAnalysis,
)
from monolith.messaging.topology import COMMANDS, DEAD_COMMANDS

Command: TypeAlias = StartAnalysis | CancelAnalysis
Reply: TypeAlias = AnalysisStarted | AnalysisCancelled | CommandRefused

AT_ONCE: Final = 16
"""Commands that are carried out at the same time."""
_COMMANDS: Final[dict[str, type[Command]]] = {
    "StartAnalysis": StartAnalysis,
    "CancelAnalysis": CancelAnalysis,
}
_MAX_BYTES: Final = 1 << 20
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_HELD_SECONDS: Final = 15 * 60.0
"""The broker takes a message back that is held for half an hour."""
_END_SECONDS: Final = 5.0
_TRANSIENT: Final = (StoreUnavailableError, ProjectionStoppedError, TimeoutError, OSError)

logger = logging.getLogger(__name__)


class Started(Protocol):
    """The answer to a submission (`monolith.application.handlers.Submitted`)."""

    @property
    def video_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def video_url(self) -> str: ...
    @property
    def video_name(self) -> str: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def frame_step(self) -> int: ...
    @property
    def repeated(self) -> bool: ...


class Handlers(Protocol):
    """The use cases behind the commands. Raise DomainErrors."""

    async def submit_url(
        self, *, url: object, video_name: object, models: object, frame_step: object, idempotency_key: str
    ) -> Started: ...

    async def knows(self, idempotency_key: str) -> bool: ...

    async def cancel(self, video_id: str, *, command_id: str) -> None: ...


class _NoRoomError(OSError):
    """Nothing new can be taken in now."""


class Commands:
    """Run it with `run`. `no_room`: why nothing new can be taken in now, for users."""

    def __init__(
        self,
        handlers: Handlers,
        broker: MessageBroker,
        no_room: Callable[[], Awaitable[str | None]],
        *,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing or NoTracing()
        self._handlers = handlers
        self._broker = broker
        self._no_room = no_room
        self.serving = False
        """Whether commands are taken now."""
        self._taken: set[asyncio.Task[object]] = set()
        self.outcomes: Counter[str] = Counter(
            {"done": 0, "refused": 0, "dead-lettered": 0, "given back": 0, "reply returned": 0}
        )

    @property
    def waiting(self) -> int:
        """Commands that are being carried out, or wait until they can be."""
        return len(self._taken)

    async def run(self) -> None:
        """Carry commands out until cancelled."""
        try:
            await self._broker.keep(
                "commands",
                self._serve,
                channel=Channel(on_return_raises=True),
                consumes=COMMANDS_QUEUE,
                graceful_seconds=_END_SECONDS,
            )
        finally:
            for task in self._taken:
                task.cancel()

    async def _serve(self, rabbit: RabbitBroker) -> None:
        await rabbit.declare_queue(DEAD_COMMANDS)

        @rabbit.subscriber(
            COMMANDS, channel=Channel(prefetch_count=AT_ONCE), ack_policy=AckPolicy.MANUAL, no_reply=True
        )
        async def take(message: RabbitMessage) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._taken.add(task)
            try:
                await self._take(rabbit, message)
            except Exception as error:
                await self._give_back(message, error)
            finally:
                self._taken.discard(task)

        await rabbit.start()
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False

    async def _take(self, rabbit: RabbitBroker, message: RabbitMessage) -> None:
        try:
            command = read_command(message)
        except InvalidRequestError as error:
            refused = CommandRefused(code="invalid-message", detail=str(error), field=error.field)
            await self._set_aside(rabbit, message, refused.detail)
            await self._reply(rabbit, message, refused)
            self.outcomes["dead-lettered"] += 1
            return await message.ack()
        sender = str(message.raw_message.headers.get(TRACEPARENT, ""))
        with self._tracing.continued(sender, type(command).__name__):
            reply = await self._until_done(command, message.message_id)
        outcome = "refused" if isinstance(reply, CommandRefused) else "done"
        if isinstance(reply, CommandRefused) and not message.reply_to:
            await self._set_aside(rabbit, message, reply.detail)
            outcome = "dead-lettered"
        await self._reply(rabbit, message, reply)
        self.outcomes[outcome] += 1
        await message.ack()

    async def _give_back(self, message: RabbitMessage, error: Exception) -> None:
        """To be delivered again, to whoever takes it."""
        known = isinstance(error, (*BROKER_ERRORS, *_TRANSIENT))
        level = logging.WARNING if known else logging.ERROR
        logger.log(
            level, "command %s could not be finished: %r", message.message_id, error,
            exc_info=None if known else error,
        )  # fmt: skip
        self.outcomes["given back"] += 1
        await asyncio.sleep(_FIRST_PAUSE)
        with contextlib.suppress(*BROKER_ERRORS):  # without a connection it has gone back already
            await message.nack(requeue=True)

    async def _until_done(self, command: Command, message_id: str) -> Reply:
        """What became of it. Raises one of `_TRANSIENT` where nothing did for long."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + _HELD_SECONDS, _FIRST_PAUSE
        while True:
            try:
                return await self._do(command, message_id)
            except DomainError as error:
                return refusal(error)
            except _TRANSIENT as error:
                if loop.time() > deadline:
                    raise
                logger.info("command %s waits: %s", message_id, error or type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _do(self, command: Command, message_id: str) -> Reply:
        if isinstance(command, CancelAnalysis):
            await self._handlers.cancel(str(command.video_id), command_id=message_id)
            return AnalysisCancelled(video_id=str(command.video_id))
        if not await self._handlers.knows(message_id) and (reason := await self._no_room()) is not None:
            raise _NoRoomError(reason)
        started = await self._handlers.submit_url(
            url=command.videoURL,
            video_name=command.videoName,
            models=command.modelsToRun,
            frame_step=command.frameStep,
            idempotency_key=message_id,
        )
        return AnalysisStarted(
            video_id=started.video_id,
            run_id=started.run_id,
            video_url=started.video_url,
            video_name=started.video_name,
            models_to_run=started.models,
            frame_step=started.frame_step,
            repeated=started.repeated,
        )

    async def _reply(self, rabbit: RabbitBroker, message: RabbitMessage, reply: Reply) -> None:
        """To who asked, where it said where that is. Whether it still listens is its own business."""
        if not message.reply_to:
            return
        try:
            await rabbit.publish(
                msgspec.json.encode(reply),
                routing_key=message.reply_to,
                timeout=_END_SECONDS,
                persist=True,
                content_type="application/json",
                message_type=type(reply).__name__,
                correlation_id=message.raw_message.correlation_id or message.raw_message.message_id,
            )
        except PublishError:
            self.outcomes["reply returned"] += 1
            logger.info("nobody takes the reply to command %s at %s", message.message_id, message.reply_to)

    async def _set_aside(self, rabbit: RabbitBroker, message: RabbitMessage, reason: str) -> None:
        """A copy to the dead letters that says why: the broker's own way there tells no reason."""
        logger.warning("a command was set aside: %s", reason)
        raw = message.raw_message
        await rabbit.publish(
            message.body,
            routing_key=DEAD_COMMANDS_QUEUE,
            timeout=_END_SECONDS,
            persist=True,
            headers={**raw.headers, REASON_HEADER: reason},
            content_type=raw.content_type,
            message_type=raw.type,
            message_id=raw.message_id,
            correlation_id=raw.correlation_id,
        )


def read_command(message: RabbitMessage) -> Command:
    """Raises InvalidRequestError for what is none."""
    raw = message.raw_message
    kind = _COMMANDS.get(raw.type or "")
    if kind is None:
        raise InvalidRequestError(
            f"the message's property type must be one of {', '.join(_COMMANDS)}, not {raw.type!r}",
            field="type",
        )
    if not raw.message_id or not raw.message_id.isprintable():
        raise InvalidRequestError(
            "the message needs the property message_id: printable text of your own that stays the same when it is sent"
            " again",
            field="message_id",
        )
    if len(message.body) > _MAX_BYTES:
        raise InvalidRequestError(f"the body must not be longer than {_MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(message.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body must be the JSON of a {kind.__name__}: {error}") from error


def refusal(error: DomainError) -> CommandRefused:
    match error:
        case InvalidRequestError():
            return CommandRefused(code="invalid-request", detail=str(error), field=error.field)
        case VideoNotFoundError():
            return CommandRefused(code="video-not-found", detail=str(error), field="video_id")
    return CommandRefused(code="not-possible", detail=str(error))
