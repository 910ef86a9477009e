"""Waiting for read models that have much to catch up with: how far they are is in the log, and only standing still is
a failure."""

from __future__ import annotations

import logging
import time
from typing import Final

from eventsourcing.projection import ProjectionRunner

_EVERY_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 600.0

logger = logging.getLogger(__name__)


async def caught_up(
    runner: ProjectionRunner,
    head: int,
    *,
    every: float = _EVERY_SECONDS,
    patience: float = _PATIENCE_SECONDS,
) -> None:
    """Return when all events up to commit position `head` are projected; a log line each `every` seconds.

    Raises ProjectionStoppedError; TimeoutError after `patience` seconds in which nothing was projected.
    """
    started = moved = time.monotonic()
    first = position = runner.position or 0
    while True:
        try:
            await runner.wait_for(head, every)
        except TimeoutError:
            now = time.monotonic()
            if (runner.position or 0) > position:
                position, moved = runner.position or 0, now
            elif now - moved > patience:
                raise
            logger.info("%s: %s", runner.projection.name, _words(first, position, head, now - started))
        else:
            break
    if position > first:
        seconds = time.monotonic() - started
        logger.info("%s: caught up with %d events in %.0f s", runner.projection.name, head - first, seconds)


def _words(first: int, position: int, head: int, seconds: float) -> str:
    """Of events between the commit positions `first` and `head`, after `seconds`."""
    rate = (position - first) / seconds
    left = f", about {(head - position) / rate:.0f} s left" if rate else ""
    share = (position - first) / max(1, head - first)
    return f"catching up, {share:.0%} of {head - first:,} events, {rate:,.0f} a second{left}"
