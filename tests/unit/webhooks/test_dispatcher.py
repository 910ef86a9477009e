from __future__ import annotations

import asyncio
from pathlib import Path

from monolith.application.leadership import SoleLeadership
from monolith.webhooks.dispatcher import Dispatcher
from monolith.webhooks.secrets import Target, WebhookSecrets
from tests.peers.receiver import closed_url
from tests.unit.webhooks.world import world


class Torn(WebhookSecrets):
    """A folder that cannot be read; the fourth look takes a long time to find out."""

    now = 0.0
    looks = 0

    async def target_of(self, webhook_id: str) -> Target | None:
        self.looks += 1
        self.now += 3600 if self.looks == 4 else 0
        raise OSError("stale file handle")


async def test_deliveries_that_break_off_are_begun_again_ever_more_slowly_unless_they_were_well_for_long(
    tmp_path: Path,
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            enough.set()
            await asyncio.Event().wait()

    async with world(tmp_path) as copy:
        await copy.service.add(closed_url(), ["*"])
        secrets = Torn(tmp_path)
        kit = copy.kit._replace(clock=lambda: secrets.now, sleep=sleep)
        dispatching = asyncio.create_task(Dispatcher(kit, secrets, SoleLeadership()).run())
        async with asyncio.timeout(20):
            await enough.wait()
        dispatching.cancel()
        await asyncio.wait([dispatching])
    assert pauses == [1.0, 2.0, 4.0, 1.0, 2.0]
