"""Runs a retention every day at a time of the day."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, time, timedelta
from typing import Final

import msgspec

from monolith.application.leadership import Leadership, SoleLeadership
from monolith.application.ports import Clock
from monolith.application.retention import Retention
from monolith.application.retention_report import RetentionReport, RetentionRequest
from monolith.domain.errors import DomainError

_LONGEST_SLEEP: Final = 60.0
"""Seconds: the clock may be set, and a machine may sleep."""
_TAKEOVER_SECONDS: Final = 60.0
"""Where nobody leads when it is time, somebody does soon."""

logger = logging.getLogger(__name__)


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`at`: time of the day, in this machine's time zone."""

    request: RetentionRequest
    at: time


class RetentionSchedule:
    """At work within `async with`. A retention that fails is logged; the next day's comes all the same."""

    def __init__(
        self,
        retention: Retention,
        plan: RetentionPlan,
        clock: Clock,
        *,
        leadership: Leadership | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`leadership`: of several copies of the program one runs it."""
        self._leadership = leadership or SoleLeadership()
        self._retention = retention
        self._sleep = sleep
        self._clock = clock
        self.plan = plan
        self.next_at = self._first()
        """Unix seconds."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RetentionSchedule:
        self._task = asyncio.create_task(self._run(), name="daily retention")
        self._task.add_done_callback(_log_failure)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            while (left := self.next_at - self._clock()) > 0:
                await self._sleep(min(left, _LONGEST_SLEEP))
            if await self._leads():
                await self._run_once()
            self.next_at = following(self._clock(), self.plan.at)

    async def _leads(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TAKEOVER_SECONDS):
                await self._leadership.wait_for(True)
        return self._leadership.leads

    async def _run_once(self) -> None:
        try:
            await self._retention.wait()
            await self._retention.start(self.plan.request, "schedule")
            await self._retention.wait()
        except DomainError as error:
            logger.warning("the scheduled retention did not run: %s", error)
        except Exception:
            logger.exception("the scheduled retention did not run")

    def _first(self) -> float:
        """At once, where the program did not run at the last time that was due."""
        now = self._clock()
        last = self._retention.report
        if last is not None and _counts(last) and following(last.started_at, self.plan.at) <= now:
            return now
        return following(now, self.plan.at)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("no retention will run by itself any more", exc_info=task.exception())


def _counts(report: RetentionReport) -> bool:
    return report.trigger == "schedule"


def following(after: float, at: time) -> float:
    """The first moment behind `after` at which the clocks of this place show `at` (Unix seconds)."""
    day = datetime.fromtimestamp(after).astimezone().date()
    for days in range(3):
        moment = datetime.combine(day + timedelta(days=days), at).astimezone().timestamp()
        if moment > after:
            return moment
    raise AssertionError("unreachable: a day passes within two")
