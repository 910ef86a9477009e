"""The deliveries of one webhook.

Rules:
- Events of one video are sent one after another, in the order in which they happened; videos do not wait for each
  other.
- An event is done when its receiver has answered 2xx, or when it is parked. The checkpoint says up to where all are
  done; after a crash those behind it are sent again, with the same ids: at least once.
- Only so many events are noted ahead, and read when it is their turn: what a slow or dead receiver does not take
  stays in the event store. A video that is stuck holds up others only where it has more than that.
- A receiver that answers 410 is disabled at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from eventsourcing.checkpoints import Checkpoints
from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.store import EventStore
from monolith.application.ports import Clock, ReadModelGate
from monolith.domain.errors import WebhookNotFoundError
from monolith.domain.events import STREAM_PREFIXES
from monolith.domain.webhook import (
    DisableWebhook,
    ParkDelivery,
    ParkedDelivery,
    RecordReplay,
    Webhook,
    WebhookCommand,
)
from monolith.webhooks.directory import WebhookDirectory, WebhookStreams
from monolith.webhooks.payload import Message, Payloads, UnreadableEventError, video_of
from monolith.webhooks.retries import RetryPolicy
from monolith.webhooks.secrets import Target
from monolith.webhooks.sender import Answer, Sender
from monolith.webhooks.watermark import Watermark

MOST_AHEAD: Final = 4000
"""Events of one webhook that are noted and not done."""
_AT_ONCE: Final = 8
"""Attempts of one webhook at the same time."""
_SAVE_SECONDS: Final = 1.0
_IDLE_SAVES: Final = 600
"""As many times more seldom the checkpoint is saved while nothing was delivered: saving it is an event, too."""
_END_SECONDS: Final = 5.0
_GATE_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)


class DeliveryCounts:
    """Of all webhooks, since the start of this process."""

    def __init__(self) -> None:
        self.attempts = {"delivered": 0, "failed": 0}
        self.parked = 0
        self.replayed = 0
        self.seconds = 0.0

    def note(self, answer: Answer) -> None:
        self.attempts["delivered" if answer.delivered else "failed"] += 1
        self.seconds += answer.seconds


class DeliveryKit(NamedTuple):
    """What the deliveries of all webhooks share. `seen`: lets a write wait until the directory knows it."""

    store: EventStore
    streams: WebhookStreams
    directory: WebhookDirectory
    seen: ReadModelGate
    checkpoints: Checkpoints
    payloads: Payloads
    sender: Sender
    retries: RetryPolicy
    clock: Clock
    counts: DeliveryCounts
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ahead: int = MOST_AHEAD


class _Due(NamedTuple):
    """An event whose turn will come."""

    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    commit_position: int
    recorded_at: float

    @classmethod
    def of(cls, event: RecordedEvent) -> _Due:
        return cls(
            str(event.event_id), event.event_type, event.stream_name, event.stream_position, event.commit_position,
            event.recorded_at,
        )  # fmt: skip


class _GoneError(Exception):
    """The receiver wants nothing more."""


class WebhookDelivery:
    """Sends one webhook what it wants, as long as `run` runs."""

    def __init__(self, webhook: Webhook, target: Target, kit: DeliveryKit) -> None:
        self._webhook = webhook
        self._target = target
        self._kit = kit
        self._started_at = kit.clock()
        self._mark = Watermark(None)
        self._saved: int | None = None
        self._delivered = False
        """Whether anything was since the checkpoint was saved last."""
        self._room = asyncio.Semaphore(kit.ahead)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._lanes: dict[str, deque[_Due]] = {}
        self._replays: set[str] = set()

    @property
    def waiting(self) -> int:
        """Events that are read and not done."""
        return self._mark.pending

    @property
    def oldest(self) -> float | None:
        """When the oldest event happened that is read and not done."""
        return min((lane[0].recorded_at for lane in self._lanes.values()), default=None)

    async def run(self) -> None:
        """Until it is cancelled, or the webhook is disabled by what happens. Raises an ExceptionGroup of the store's
        errors."""
        name = checkpoint_name(self._webhook.webhook_id)
        after = await self._kit.checkpoints.load(name)
        self._saved = after
        after = self._webhook.start if after is None else after
        self._mark = Watermark(after)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(tasks, after))
                tasks.create_task(self._follow_replays(tasks))
                tasks.create_task(self._save_regularly(name))
        except* _GoneError:
            logger.warning("webhook %s is disabled: its receiver is gone", self._webhook.webhook_id)
        finally:
            with contextlib.suppress(StoreUnavailableError, TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await self._save(name)

    # What happens.

    async def _follow(self, tasks: asyncio.TaskGroup, after: int | None) -> None:
        async with self._kit.store.subscribe(after=after, prefixes=STREAM_PREFIXES) as items:
            async for item in items:
                if isinstance(item, CaughtUp):
                    self._mark.pass_over(item.commit_position or 0)
                    continue
                for event in item:
                    await self._take(tasks, event)
        raise StoreUnavailableError("the event store was closed")

    async def _take(self, tasks: asyncio.TaskGroup, event: RecordedEvent) -> None:
        if not self._webhook.wants(event.event_type):
            self._mark.pass_over(event.commit_position)
            return
        await self._room.acquire()
        self._mark.begin(event.commit_position)
        key = video_of(event)
        if key in self._lanes:
            self._lanes[key].append(_Due.of(event))
        else:
            self._lanes[key] = deque([_Due.of(event)])
            tasks.create_task(self._work_off(key))

    async def _work_off(self, key: str) -> None:
        lane = self._lanes[key]
        while lane:
            await self._deliver(lane[0])
            self._mark.done(lane.popleft().commit_position)
            self._delivered = True
            self._room.release()
        del self._lanes[key]

    async def _deliver(self, event: _Due) -> None:
        """It is delivered, or parked, or gone, when this returns."""
        if event.message_id in self._parked():
            return  # before a crash, after which it is read again
        try:
            message = await self._stored(event)
        except UnreadableEventError as error:
            await self._park(event, 0, str(error))
            return
        if message is None:
            return
        due = max(event.recorded_at, self._started_at)
        attempts, failure = await self._attempts(message, due, replay=False)
        if failure is not None:
            await self._park(event, attempts, failure)

    async def _attempts(self, message: Message, due: float, *, replay: bool) -> tuple[int, str | None]:
        """How many there were, and why the last of them failed; None where it did not."""
        kit, attempts = self._kit, 0
        while True:
            async with self._places:
                answer = await kit.sender.send(self._target, message)
            kit.counts.note(answer)
            attempts += 1
            if answer.failure is None:
                return attempts, None
            if answer.gone:
                await self._disable(answer.failure)
            if kit.retries.given_up(attempts, kit.clock() - due, replay=replay):
                return attempts, answer.failure
            logger.info(
                "webhook %s did not take event %s: %s",
                self._webhook.webhook_id,
                message.message_id,
                answer.failure,
            )
            await kit.sleep(kit.retries.pause(attempts, answer.pause))

    async def _disable(self, failure: str) -> None:
        await self._execute(
            DisableWebhook(at=self._kit.clock(), webhook_id=self._webhook.webhook_id, reason=failure)
        )
        raise _GoneError

    async def _park(self, event: _Due | ParkedDelivery, attempts: int, reason: str) -> None:
        """Blocks what is behind it no longer."""
        is_new = isinstance(event, _Due)
        command = ParkDelivery(
            at=self._kit.clock(),
            webhook_id=self._webhook.webhook_id,
            message_id=event.message_id,
            event_type=event.event_type,
            stream_name=event.stream_name,
            stream_position=event.stream_position,
            attempts=attempts,
            reason=reason,
            again=not is_new,
        )
        await self._execute(command)
        self._kit.counts.parked += is_new
        logger.warning(
            "webhook %s: event %s is parked after %d attempts: %s",
            self._webhook.webhook_id, command.message_id, attempts, reason,
        )  # fmt: skip

    async def _execute(self, command: WebhookCommand) -> None:
        """And wait until the directory knows, so that nothing is begun again by what it says."""
        outcome = await self._kit.streams.execute(self._webhook.webhook_id, command)
        if outcome.commit_position is not None:
            with contextlib.suppress(TimeoutError, ProjectionStoppedError):
                await self._kit.seen.wait_for(outcome.commit_position, _GATE_SECONDS)

    # What a user wants to be tried again.

    async def _follow_replays(self, tasks: asyncio.TaskGroup) -> None:
        directory = self._kit.directory
        while True:
            seen = directory.changes
            for parked in self._wanted():
                self._replays.add(parked.message_id)
                tasks.create_task(self._replay(parked))
            await directory.wait_change(seen)

    def _wanted(self) -> Sequence[ParkedDelivery]:
        parked = self._parked().values()
        return [one for one in parked if one.replaying and one.message_id not in self._replays]

    def _parked(self) -> Mapping[str, ParkedDelivery]:
        """As the directory knows now."""
        try:
            return self._kit.directory.get(self._webhook.webhook_id).parked
        except WebhookNotFoundError:
            return {}

    async def _replay(self, parked: ParkedDelivery) -> None:
        try:
            try:
                message = await self._stored(parked)
            except UnreadableEventError as error:
                await self._park(parked, parked.attempts, str(error))
                return
            if message is None:
                await self._park(parked, parked.attempts, "the event is gone: retention has removed it")
                return
            attempts, failure = await self._attempts(message, self._kit.clock(), replay=True)
            if failure is not None:
                await self._park(parked, parked.attempts + attempts, failure)
                return
            at, webhook_id = self._kit.clock(), self._webhook.webhook_id
            await self._execute(RecordReplay(at=at, webhook_id=webhook_id, message_id=parked.message_id))
            self._kit.counts.replayed += 1
        finally:
            self._replays.discard(parked.message_id)
            self._kit.directory.tell()  # it may have been asked for again meanwhile

    async def _stored(self, event: _Due | ParkedDelivery) -> Message | None:
        """None where retention has removed it. Raises UnreadableEventError."""
        found = await self._kit.store.read_stream(
            event.stream_name, from_position=event.stream_position, limit=1
        )
        if not found or str(found[0].event_id) != event.message_id:
            return None
        return self._kit.payloads.of_event(found[0])

    # How far it is.

    async def _save_regularly(self, name: str) -> None:
        idle = 0
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            idle += 1
            if self._delivered or idle >= _IDLE_SAVES:
                idle = 0
                await self._save(name)

    async def _save(self, name: str) -> None:
        position = self._mark.position
        self._delivered = False
        if position is not None and position != self._saved:
            await self._kit.checkpoints.save(name, position)
            self._saved = position


def checkpoint_name(webhook_id: str) -> str:
    return f"webhook-{webhook_id}"
