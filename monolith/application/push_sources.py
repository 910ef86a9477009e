"""Videos that publishers push to the program: how they are made, who may publish to them, and who does.

A secret (RTMP: the stream key; WebRTC: the bearer token) is the only way in. It is 184 bits of chance behind the
video's id, so that it is found without a list of all secrets; it stands in a file that only this user reads, and
nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from monolith.application.handlers import Submitted, VideoHandlers
from monolith.application.ports import Secrets
from monolith.application.publish_claims import PublishClaims, PublishedElsewhereError, SoleClaims
from monolith.application.video_stream import VideoStreams
from monolith.domain.errors import NotPossibleError
from monolith.domain.events import PushKind
from monolith.domain.video import Video
from monolith.live.feeds import FeedBusyError, LiveFeed, LiveFeeds, LiveReader

_CHANCE_BYTES: Final = 23
_ID_BYTES: Final = 16
_LOOKS: Final = 2
_CLAIM_LOST: Final = "it cannot be told any more whether another publishes the same; connect again"
_BROKE_OFF: Final = "the publisher's connection broke"
_GONE_SECONDS: Final = 3.0
"""Publishers send something several times a second."""


class PublishRefusedError(Exception):
    """Root of what `PushSources.authorize` refuses; the text is for publishers."""


class UnknownSecretError(PublishRefusedError):
    """Nothing may be published with this secret. Which videos there are is not told."""


class VideoOverError(PublishRefusedError):
    """The secret is right, but the video takes no more: it has ended, or was cancelled or deleted."""


class PushEndpoint(NamedTuple):
    """`secret`: what its publisher has to know."""

    submitted: Submitted
    video_id: str
    secret: str


class _Publication:
    """One connection of a publisher. `held`: a reader from its first packet on, for the first who follows; `missed`:
    packets of connections before it that nobody followed."""

    def __init__(self, feed: LiveFeed, missed: int) -> None:
        self.feed = feed
        self.held: LiveReader | None = feed.read()
        self.looks = 0
        """That were in vain, after its end."""
        self._missed = missed

    @property
    def to_follow(self) -> bool:
        """Who has sent no picture yet is not followed, nor is who ended without one."""
        return not self.feed.ended if self.held is None else self.held.waiting > 0

    @property
    def unfollowed(self) -> int:
        """Packets that came before its first follower did."""
        return 0 if self.held is None else self._missed + self.held.waiting + self.held.lost

    def take(self) -> LiveReader:
        """Everything from the first packet on, where it is all there still; else what is newest. What its first
        follower does not get it has missed."""
        unfollowed, held, self.held = self.unfollowed, self.held, None
        if held is None:
            return self.feed.read()
        reader = held
        if held.lost:
            self.feed.forget(held)
            reader = self.feed.read()
        reader.miss(unfollowed - reader.waiting)
        return reader

    def drop(self) -> None:
        if self.held is not None:
            self.feed.forget(self.held)
            self.held = None


class PushSources:
    """The `Publishers` port, and more. `feeds`: what is published now, also for those who watch."""

    def __init__(
        self,
        handlers: VideoHandlers,
        streams: VideoStreams,
        secrets: Secrets,
        feeds: LiveFeeds,
        claims: PublishClaims | None = None,
    ) -> None:
        self.feeds = feeds
        self._handlers = handlers
        self._streams = streams
        self._secrets = secrets
        self._claims = claims or SoleClaims()
        self.when_published: Callable[[str], None] = lambda video_id: None
        """Is told of each video whose publisher comes."""
        self._publications: dict[str, _Publication] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def create(
        self,
        kind: PushKind,
        *,
        models: object,
        frame_step: object = None,
        video_name: object = None,
        idempotency_key: str | None = None,
    ) -> PushEndpoint:
        """A new video, Pending until its publisher comes; with an Idempotency-Key the first answer again.

        Raises DomainErrors as `VideoHandlers` do.
        """
        chance = secrets.token_bytes(_CHANCE_BYTES)
        submitted = await self._handlers.submit_push(
            kind=kind,
            secret=chance.hex(),
            video_name=video_name,
            models=models,
            frame_step=frame_step,
            idempotency_key=idempotency_key,
        )
        kept = await self._secrets.url_of(submitted.video_id) if submitted.repeated else chance.hex()
        if kept is None:
            raise NotPossibleError(
                "the video of this Idempotency-Key has ended; use a new key to publish another one"
            )
        return PushEndpoint(submitted, submitted.video_id, _joined(submitted.video_id, kept))

    async def authorize(self, kind: PushKind, secret: str) -> str:
        """The video that may be published to with `secret`. Raises UnknownSecretError, VideoOverError,
        EventStoreErrors, OSError."""
        video_id, chance = _parted(secret)
        kept = await self._secrets.url_of(video_id)
        if kept is None or not hmac.compare_digest(kept.encode(), chance.encode()):
            raise UnknownSecretError("the key is wrong, or its video has ended: ask for a new endpoint")
        video = await self._streams.load(video_id)
        if video.submitted is None or video.submitted.source_kind != kind:
            raise UnknownSecretError(
                f"the key is not one for {_NAMES[kind]}: ask for an endpoint of that kind"
            )
        if not video.takes_publishers:
            raise VideoOverError(f"{_why_over(video)}; ask for a new endpoint to publish again")
        return video_id

    @asynccontextmanager
    async def publisher(self, video_id: str) -> AsyncIterator[LiveFeed]:
        """The feed to publish to. End it (`LiveFeed.end`) where the publisher ends in order: leaving without that means
        that its connection broke, and that it may come again. Leave when `LiveFeed.dismissed` is set.

        Raises FeedBusyError where there is a publisher already, and it is not silent; StoreUnavailableError.
        """
        self._dismiss_silent(video_id)
        feed = self.feeds.open(video_id)
        try:
            async with self._claims.claim(video_id, lambda: feed.dismiss(_CLAIM_LOST)):
                before = self._publications.get(video_id)
                missed = 0 if before is None else before.unfollowed
                self._forget(video_id)
                self._publications[video_id] = _Publication(feed, missed)
                feed.begun = partial(self._begun, video_id)
                yield feed
        except PublishedElsewhereError as error:
            raise FeedBusyError(str(error)) from error
        finally:
            self.feeds.close(feed, _BROKE_OFF)

    async def wait(self, video_id: str, timeout: float) -> bool:
        news = asyncio.Event()
        waiting = self._waiting.setdefault(video_id, set())
        waiting.add(news)
        try:
            if self._is_there(video_id):
                return True
            async with asyncio.timeout(timeout):
                await news.wait()
            return True
        except TimeoutError:
            return False
        finally:
            waiting.discard(news)
            if not waiting and self._waiting.get(video_id) is waiting:
                del self._waiting[video_id]

    def read(self, video_id: str, *, look: bool) -> LiveReader | None:
        """For the handover: what is published now, or was and nobody has followed yet. None: nothing."""
        publication = self._publications.get(video_id)
        if publication is None or not publication.to_follow:
            return None
        return publication.feed.read() if look else publication.take()

    def give_up(self, video_id: str) -> bool:
        """One that has ended is looked at once more: it may have been our decoder that failed."""
        publication = self._publications.get(video_id)
        if publication is None or not publication.feed.ended:
            return False
        publication.looks += 1
        if publication.looks < _LOOKS:
            return False
        over = publication.to_follow and not publication.feed.reason
        self._forget(video_id)
        return over

    def note(self, video: Video) -> None:
        if not video.takes_pictures:
            self._forget(video.video_id)
            feed = self.feeds.get(video.video_id)
            if feed is not None:
                feed.dismiss(_why_over(video))

    def has_publisher(self, video_id: str) -> bool:
        """Whether there is something to follow here."""
        return self._is_there(video_id)

    def _begun(self, video_id: str) -> None:
        self._wake(video_id)
        self.when_published(video_id)

    def _dismiss_silent(self, video_id: str) -> None:
        """Who is silent while another comes with the same secret has gone, and comes again: its connection broke, and
        nothing told so yet."""
        feed = self.feeds.get(video_id)
        if feed is None or feed.silent_seconds is None or feed.silent_seconds() < _GONE_SECONDS:
            return
        self.feeds.close(feed, _BROKE_OFF)
        feed.dismiss("its publisher came again by another connection")

    def _is_there(self, video_id: str) -> bool:
        publication = self._publications.get(video_id)
        return publication is not None and publication.to_follow

    def _forget(self, video_id: str) -> None:
        publication = self._publications.pop(video_id, None)
        if publication is not None:
            publication.drop()

    def _wake(self, video_id: str) -> None:
        for news in self._waiting.get(video_id, ()):
            news.set()


_NAMES: Final[dict[PushKind, str]] = {"rtmp": "RTMP", "webrtc": "WebRTC"}


def _joined(video_id: str, chance: str) -> str:
    raw = UUID(video_id).bytes + bytes.fromhex(chance)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parted(secret: str) -> tuple[str, str]:
    """Video id and hexadecimal chance. Raises UnknownSecretError."""
    try:
        raw = base64.b64decode(secret.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raw = b""
    if len(raw) != _ID_BYTES + _CHANCE_BYTES:
        raise UnknownSecretError("this is no key of an endpoint: give the one from the answer, whole")
    return str(UUID(bytes=raw[:_ID_BYTES])), raw[_ID_BYTES:].hex()


def _why_over(video: Video) -> str:
    if video.deleted:
        return "the video was deleted"
    if video.stopping:
        return "the video is being ended"
    return "the analysis of the video has ended"


__all__ = [
    "FeedBusyError",
    "PublishRefusedError",
    "PushEndpoint",
    "PushSources",
    "UnknownSecretError",
    "VideoOverError",
]
