"""All who watch (WHEP): let in up to a limit, found again by their session's id, ended with the program."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from monolith.live.feeds import LiveFeeds
from monolith.live.playback.broadcast import Broadcast, PlaybackOptions
from monolith.live.playback.link import Level
from monolith.live.playback.results import LiveResults
from monolith.live.playback.session import Session
from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.peers import add_candidates
from monolith.live.webrtc.sdp import Fragment, check_offer

logger = logging.getLogger(__name__)


class NotLiveError(Exception):
    """Nothing of the video is published now."""


class NoSessionError(Exception):
    """There is no such session (any more)."""


class TooManyViewersError(Exception):
    """As many watch as may."""


class Viewers:
    """Sessions of all videos. Use as `async with`; leaving ends them."""

    def __init__(
        self, feeds: LiveFeeds, results: LiveResults, ice: IceOptions, options: PlaybackOptions
    ) -> None:
        self.options = options
        self.ice = ice
        self._feeds = feeds
        self._results = results
        self._broadcasts: dict[str, Broadcast] = {}
        self._sessions: dict[str, Session] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opening = 0
        self._of_gone: Counter[str] = Counter()
        self.encoders_started = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def encoders(self) -> int:
        """Encoder processes at work."""
        return sum(broadcast.encoders for broadcast in self._broadcasts.values())

    def levels(self) -> dict[str, float]:
        """Viewers by `Level`."""
        counted = Counter(str(session.track.quality.level) for session in self._sessions.values())
        return {level: counted[level] for level in Level}

    def sums(self, what: str) -> float:
        """Of all viewers since the program's start; `what`: see `ViewerTrack.counts`."""
        return self._of_gone[what] + sum(one.track.counts()[what] for one in self._sessions.values())

    async def open(
        self, video_id: str, offer: bytes, *, overlay: bool, allowed: Callable[[], bool] = lambda: True
    ) -> tuple[Session, str]:
        """A new viewer and the answer for it. `allowed`: see `Session`.

        Raises NotLiveError, TooManyViewersError, OfferError, NoCommonCodecError.
        """
        if self._feeds.get(video_id) is None:
            raise NotLiveError(f"video {video_id} is not live: nobody publishes it now")
        if len(self._sessions) + self._opening >= self.options.viewers:
            raise TooManyViewersError(f"{self.options.viewers} viewers watch already, and no more may")
        text, description = check_offer(offer)
        broadcast = self._broadcasts.get(video_id)
        if broadcast is None:
            broadcast = Broadcast(video_id, self._feeds, self._results, self.options)
            self._broadcasts[video_id] = broadcast
        self._opening += 1
        session = Session(broadcast, self.ice, overlay=overlay, allowed=allowed)
        try:
            answer = await session.answer(text, description)
        except BaseException:
            await session.close()
            self._forget(broadcast)
            raise
        finally:
            self._opening -= 1
        self._sessions[session.session_id] = session
        self._tasks[session.session_id] = asyncio.create_task(self._attend(session), name="viewer")
        return session, answer

    def session(self, video_id: str, session_id: str) -> Session:
        """Raises NoSessionError."""
        session = self._sessions.get(session_id)
        if session is None or session.broadcast.video_id != video_id:
            raise NoSessionError("there is no such session; it may have ended")
        return session

    async def trickle(self, session: Session, fragment: Fragment) -> None:
        await add_candidates(session.peer, fragment.candidates)

    async def close(self, session: Session) -> None:
        """End it."""
        await session.close()
        if (task := self._tasks.get(session.session_id)) is not None:
            await asyncio.wait({task})

    async def _attend(self, session: Session) -> None:
        """Until the session has ended; it is forgotten then."""
        video_id = session.broadcast.video_id
        try:
            logger.info("a viewer of video %s has gone: %s", video_id, await session.run())
        except Exception:
            logger.exception("a viewer of video %s was lost", video_id)
        finally:
            try:
                await session.close()
            finally:
                del self._sessions[session.session_id], self._tasks[session.session_id]
                self._of_gone.update(session.track.counts())
                self._forget(session.broadcast)

    def _forget(self, broadcast: Broadcast) -> None:
        """A broadcast that nobody watches."""
        watched = any(session.broadcast is broadcast for session in self._sessions.values())
        if not watched and not self._opening and self._broadcasts.get(broadcast.video_id) is broadcast:
            self.encoders_started += broadcast.encoders_started
            del self._broadcasts[broadcast.video_id]

    async def __aenter__(self) -> Viewers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = set(self._tasks.values())
        await asyncio.gather(*(session.close() for session in tuple(self._sessions.values())))
        if tasks:
            await asyncio.wait(tasks)
