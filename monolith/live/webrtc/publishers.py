"""All publishers by WebRTC: begun, found again, limited, and ended with the program."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol

from monolith.live.feeds import FeedBusyError, LiveFeed
from monolith.live.webrtc.ice import NoAddressError
from monolith.live.webrtc.publishing import PublisherConnection, WebRtcOptions
from monolith.live.webrtc.sdp import NoCommonCodecError, OfferError

_END_SECONDS: Final = 8.0
_REFUSALS: Final = ("malformed", "no codec", "busy", "too many")

logger = logging.getLogger(__name__)


class TooManyPublishersError(Exception):
    """The limit is reached."""


class PushedVideos(Protocol):
    """Who may publish what (`monolith.application.push_sources.PushSources`)."""

    def publisher(self, video_id: str) -> AbstractAsyncContextManager[LiveFeed]: ...


class WebRtcPublishers:
    """Use as `async with`: leaving ends all connections. Every connection is a task of its own."""

    def __init__(self, videos: PushedVideos, options: WebRtcOptions) -> None:
        self.options = options
        self.refused: Counter[str] = Counter(dict.fromkeys(_REFUSALS, 0))
        self._videos = videos
        self._connections: dict[str, PublisherConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended_pictures: Counter[str] = Counter()
        self._ending = False

    async def begin(self, video_id: str, offer: bytes) -> tuple[PublisherConnection, str]:
        """A new connection, and the answer to `offer`.

        Raises OfferError, NoCommonCodecError, FeedBusyError, TooManyPublishersError, NoAddressError, TimeoutError.
        """
        if self._ending or len(self._tasks) >= self.options.publishers:
            self.refused["too many"] += 1
            raise TooManyPublishersError(
                f"there are {len(self._tasks)} publishers already; try again later, or set"
                " VIDEO_ANALYSIS_WEBRTC_PUBLISHERS"
            )
        connection = PublisherConnection(video_id, self.options)
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            self._run(connection, offer, answered), name=f"WebRTC publisher of {video_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return connection, await answered
        except asyncio.CancelledError:
            connection.end("its offer was taken back")
            raise

    def find(self, video_id: str, session_id: str) -> PublisherConnection | None:
        connection = self._connections.get(session_id)
        return connection if connection is not None and connection.video_id == video_id else None

    def states(self) -> dict[str, float]:
        connected = sum(one.connected for one in self._connections.values())
        return {"connected": connected, "connecting": len(self._tasks) - connected}

    def sums(self, what: str) -> float:
        """`pictures`, `bytes`, `lost` packets, `broken` pictures or `asked` keyframes, since the program's start."""
        open_ones = (one.pictures for one in self._connections.values())
        return self._ended_pictures[what] + sum(
            int(getattr(one, what)) for one in open_ones if one is not None
        )

    async def _run(
        self, connection: PublisherConnection, offer: bytes, answered: asyncio.Future[str]
    ) -> None:
        try:
            await self._publish(connection, offer, answered)
        except (OfferError, NoCommonCodecError, FeedBusyError, NoAddressError, TimeoutError) as error:
            self._refuse(error, answered)
        except Exception as error:
            logger.exception("a WebRTC publisher's connection failed")
            self._refuse(error, answered)
        finally:
            answered.cancel()

    async def _publish(
        self, connection: PublisherConnection, offer: bytes, answered: asyncio.Future[str]
    ) -> None:
        async with self._videos.publisher(connection.video_id) as feed:
            try:
                answer = await connection.answer(offer, feed)
                self._connections[connection.session_id] = connection
                if not answered.cancelled():
                    answered.set_result(answer)
                logger.info("a WebRTC publisher of video %s has come", connection.video_id)
                reason = await connection.watch(feed)
                feed.end(reason)
                logger.info(
                    "a WebRTC publisher of video %s has gone: %s", connection.video_id, reason or "it ended"
                )
            finally:
                self._forget(connection)
                feed.ask_keyframe = None
                await connection.close()

    def _refuse(self, error: Exception, answered: asyncio.Future[str]) -> None:
        kinds = {OfferError: "malformed", NoCommonCodecError: "no codec", FeedBusyError: "busy"}
        if type(error) in kinds:
            self.refused[kinds[type(error)]] += 1
        if not answered.done():
            answered.set_exception(error)

    def _forget(self, connection: PublisherConnection) -> None:
        if self._connections.pop(connection.session_id, None) is not None and connection.pictures is not None:
            for what in ("pictures", "bytes", "lost", "broken", "asked"):
                self._ended_pictures[what] += getattr(connection.pictures, what)

    async def __aenter__(self) -> WebRtcPublishers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        for connection in self._connections.values():
            connection.end("the program is ending")
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_END_SECONDS)
        for task in late:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*late, return_exceptions=True)
