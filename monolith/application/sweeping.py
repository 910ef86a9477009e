"""Removes what copies of the program have left in the folder that they share: one that was killed, or a source whose
video ended while nobody led. Others may submit at any time, so only what was not written to for long is a leftover."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Final

from monolith.application.leadership import Leadership
from monolith.application.purge import Purge
from monolith.domain.video import Video

_PAUSE: Final = 3600.0
_UNTOUCHED_SECONDS: Final = 3600.0

logger = logging.getLogger(__name__)


async def sweep_now_and_then(
    purge: Purge,
    leadership: Leadership,
    open_videos: Callable[[], Awaitable[Sequence[Video]]],
    unreadable: Set[str],
) -> None:
    """Until cancelled, while this copy leads. `open_videos`: whose sources are needed, but for the `unreadable` ones:
    while there are any, nothing is removed."""
    while True:
        await leadership.wait_for(True)
        videos = await open_videos()
        if not unreadable:
            try:
                await purge.sweep_sources(videos, untouched_for=_UNTOUCHED_SECONDS)
            except OSError as error:
                logger.warning("sources that nobody needs any more cannot be removed: %s", error)
        await asyncio.sleep(_PAUSE)
