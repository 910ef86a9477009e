"""Wires what publishers push to the program: who may, who does, and how decoder processes get it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

from monolith.application.handlers import VideoHandlers
from monolith.application.ports import Secrets
from monolith.application.push_sources import PushSources
from monolith.application.video_stream import VideoStreams
from monolith.live.feeds import LiveFeeds
from monolith.live.handover import FeedHandover

_SOCKET: Final = Path("run", "live.sock")


class Publishing(NamedTuple):
    """`sources`: videos that are pushed, and their publishers; `handover`: to decoder processes."""

    sources: PushSources
    handover: FeedHandover


async def publishing_of(
    stack: AsyncExitStack, folder: Path, handlers: VideoHandlers, streams: VideoStreams, secrets: Secrets
) -> Publishing:
    """`folder`: the data directory. `stack` ends what is started. Raises OSError where there can be no socket."""
    sources = PushSources(handlers, streams, secrets, LiveFeeds())
    handover = FeedHandover(sources, folder / _SOCKET)
    await stack.enter_async_context(handover.serving())
    return Publishing(sources, handover)
