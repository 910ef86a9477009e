"""All who watch (WHEP): let in up to a limit, found again by their session's id, ended with the program."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from monolith.access.rates import TokenBuckets, is_this_machine
from monolith.live.feeds import LiveFeeds
from monolith.live.playback.broadcast import Broadcast, PlaybackOptions
from monolith.live.playback.encoder_places import EncoderPlaces
from monolith.live.playback.link import Level
from monolith.live.playback.results import LiveResults
from monolith.live.playback.session import ITSELF, Client, Session
from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.sdp import check_offer

logger = logging.getLogger(__name__)


class NotLiveError(Exception):
    """Nothing of the video is published now."""


class NoSessionError(Exception):
    """There is no such session (any more)."""


class TooManyViewersError(Exception):
    """As many watch as may, in all or of one client."""


class TooOftenError(Exception):
    """A client makes offers too often. `seconds`: until it may again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("you begin to watch too often")
        self.seconds = seconds


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
        self._opening: Counter[str] = Counter()
        self._opening_by: Counter[str] = Counter()
        self._offers = TokenBuckets(options.offer_rate, options.offer_burst)
        self._of_gone: Counter[str] = Counter()
        self.places = EncoderPlaces(options.encoders)

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def encoders(self) -> int:
        """Encoder processes at work."""
        return len(self.places)

    def levels(self) -> dict[str, float]:
        """Viewers by `Level`."""
        counted = Counter(str(session.track.quality.level) for session in self._sessions.values())
        return {level: counted[level] for level in Level}

    def sums(self, what: str) -> float:
        """Of all viewers since the program's start; `what`: see `ViewerTrack.counts`."""
        return self._of_gone[what] + sum(one.track.counts()[what] for one in self._sessions.values())

    async def open(
        self, video_id: str, offer: bytes, *, overlay: bool, client: Client = ITSELF
    ) -> tuple[Session, str]:
        """A new viewer and the answer for it.

        Raises NotLiveError, TooManyViewersError, TooOftenError, OfferError, NoCommonCodecError, NoAddressError.
        """
        if self._feeds.get(video_id) is None:
            raise NotLiveError(f"video {video_id} is not live: nobody publishes it to this server now")
        self._check_room(client.address)
        text, description = check_offer(offer)
        if client.address and (wait := self._offers.take(client.address)):
            raise TooOftenError(wait)
        broadcast = self._broadcasts.get(video_id)
        if broadcast is None:
            broadcast = Broadcast(video_id, self._feeds, self._results, self.options, self.places)
            self._broadcasts[video_id] = broadcast
        session = Session(broadcast, self.ice, overlay=overlay, client=client)
        with self._opens(session):
            try:
                answer = await session.answer(text, description)
            except BaseException:
                await session.close()
                raise
            self._sessions[session.session_id] = session
            self._tasks[session.session_id] = asyncio.create_task(self._attend(session), name="viewer")
        return session, answer

    def _check_room(self, address: str) -> None:
        """Raises TooManyViewersError."""
        options = self.options
        if len(self._sessions) + self._opening.total() >= options.viewers:
            raise TooManyViewersError(f"{options.viewers} viewers watch already, and no more may")
        if not address:
            return
        own = [one for one in self._sessions.values() if one.client.address == address]
        opening = self._opening_by[address]
        if sum(not one.connected for one in own) + opening >= options.connecting_per_client:
            raise TooManyViewersError(
                f"{options.connecting_per_client} viewers of your address are connecting already"
            )
        if len(own) + opening >= options.viewers_per_client and not is_this_machine(address):
            raise TooManyViewersError(
                f"{options.viewers_per_client} viewers of your address watch already, and no more may"
                " (VIDEO_ANALYSIS_MAX_VIEWERS_PER_CLIENT)"
            )

    @contextmanager
    def _opens(self, session: Session) -> Iterator[None]:
        """Its place is taken, although it is not in the list yet."""
        video_id, address = session.broadcast.video_id, session.client.address
        self._opening[video_id] += 1
        self._opening_by[address] += 1
        try:
            yield
        finally:
            for opening, key in ((self._opening, video_id), (self._opening_by, address)):
                opening[key] -= 1
                if not opening[key]:
                    del opening[key]
            self._forget(session.broadcast)

    def session(self, video_id: str, session_id: str) -> Session:
        """Raises NoSessionError."""
        session = self._sessions.get(session_id)
        if session is None or session.broadcast.video_id != video_id:
            raise NoSessionError("there is no such session; it may have ended")
        return session

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
        opening = self._opening[broadcast.video_id]
        if not watched and not opening and self._broadcasts.get(broadcast.video_id) is broadcast:
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
