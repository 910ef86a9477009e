"""Runs the deliveries of all webhooks, at the copy of the program that leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Final

from eventsourcing.errors import StoreUnavailableError
from monolith.application.leadership import Leadership
from monolith.domain.webhook import DisableWebhook, Webhook
from monolith.webhooks.delivery import DeliveryKit, WebhookDelivery, checkpoint_name
from monolith.webhooks.secrets import WebhookSecrets

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0

logger = logging.getLogger(__name__)


class Dispatcher:
    """One task for each active webhook, each of which fails and is begun again by itself."""

    def __init__(self, kit: DeliveryKit, secrets: WebhookSecrets, leadership: Leadership) -> None:
        self._kit = kit
        self._secrets = secrets
        self._leadership = leadership
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._deliveries: dict[str, WebhookDelivery] = {}

    @property
    def waiting(self) -> int:
        """Events that are read and not delivered."""
        return sum(delivery.waiting for delivery in self._deliveries.values())

    @property
    def oldest_age(self) -> float:
        """Seconds since the oldest of them happened; 0 without any."""
        moments = [delivery.oldest for delivery in self._deliveries.values()]
        oldest = min((moment for moment in moments if moment is not None), default=None)
        return 0.0 if oldest is None else max(0.0, self._kit.clock() - oldest)

    async def run(self) -> None:
        """Until cancelled. What fails is logged and begun again: the rest of the program does without."""
        while True:
            await self._leadership.wait_for(True)
            try:
                await self._while_leading()
            except Exception:
                logger.exception("no webhook is served; it is tried again")
                await asyncio.sleep(_LONGEST_PAUSE)

    async def _while_leading(self) -> None:
        work = asyncio.create_task(self._keep_up(), name="webhooks")
        led = asyncio.create_task(self._leadership.wait_for(False), name="webhooks' leader")
        try:
            await asyncio.wait((work, led), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            await _end((work, led, *self._tasks.values()))
            self._tasks.clear()

    async def _keep_up(self) -> None:
        """A task for each webhook that is active, none for others."""
        directory, known = self._kit.directory, frozenset[str]()
        while True:
            seen, there = directory.changes, directory.all()
            active = {webhook.webhook_id: webhook for webhook in there if webhook.active}
            unwanted = [self._tasks.pop(webhook_id) for webhook_id in self._tasks.keys() - active.keys()]
            await _end(unwanted)
            gone, known = known, frozenset(webhook.webhook_id for webhook in there)
            await self._forget(gone - known)
            for webhook_id, webhook in active.items():
                if webhook_id not in self._tasks or self._tasks[webhook_id].done():
                    task = asyncio.create_task(self._serve(webhook), name=f"webhook {webhook_id}")
                    self._tasks[webhook_id] = task
            await directory.wait_change(seen)

    async def _forget(self, webhook_ids: Iterable[str]) -> None:
        """Where the store is away, a few small events of each stay behind."""
        for webhook_id in webhook_ids:
            with contextlib.suppress(StoreUnavailableError):
                await self._kit.checkpoints.forget(checkpoint_name(webhook_id))

    async def _serve(self, webhook: Webhook) -> None:
        """Its deliveries, begun again after every failure, ever more slowly while they fail soon."""
        pause = _FIRST_PAUSE
        while True:
            began = self._kit.clock()
            try:
                return await self._deliver(webhook)
            except Exception as error:
                if _is_outage(error):
                    logger.warning("webhook %s waits for the event store: %s", webhook.webhook_id, error)
                else:
                    logger.exception("the deliveries of webhook %s broke off", webhook.webhook_id)
            if self._kit.clock() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await self._kit.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _deliver(self, webhook: Webhook) -> None:
        target = await self._secrets.target_of(webhook.webhook_id)
        if target is None:
            reason = (
                "its secret is gone from the secrets folder, or is not in the one that the sending copy sees"
                " (VIDEO_ANALYSIS_SHARED_DIR); remove it and add it again"
            )
            command = DisableWebhook(at=self._kit.clock(), webhook_id=webhook.webhook_id, reason=reason)
            await self._kit.streams.execute(webhook.webhook_id, command)
            logger.error("webhook %s is disabled: %s", webhook.webhook_id, reason)
            return
        delivery = WebhookDelivery(webhook, target, self._kit)
        self._deliveries[webhook.webhook_id] = delivery
        try:
            await delivery.run()
        finally:
            self._deliveries.pop(webhook.webhook_id, None)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_outage, error.exceptions))
    return isinstance(error, StoreUnavailableError)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
