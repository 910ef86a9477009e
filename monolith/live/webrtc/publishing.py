"""One publisher by WebRTC: a peer connection whose pictures go to a live feed."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from aiortc import RTCPeerConnection

from monolith.live.feeds import LiveFeed
from monolith.live.webrtc.ice import IceOptions, RuledConnection
from monolith.live.webrtc.peers import add_candidates, answer, close_peer, new_peer, take_offer
from monolith.live.webrtc.receiving import PictureBuffer, tap
from monolith.live.webrtc.sdp import (
    Fragment,
    NoCommonCodecError,
    check_offer,
    sends_video,
    username_of,
    with_bitrate,
)

_TICK: Final = 0.5
_DEAD_SECONDS: Final = 8.0
"""A browser sends something every second or two, also where its picture stands still."""
_ANSWER_SECONDS: Final = 10.0
_RATE_SECONDS: Final = 5.0
_RATE_SLACK: Final = 1.5
_SENDERS: Final = 64
START_KILOBITS: Final = 2500


@dataclass(frozen=True, kw_only=True)
class WebRtcOptions:
    """Bounds of what one publisher may cost. Times in seconds, `max_bitrate` in kilobits a second."""

    ice: IceOptions = field(default_factory=IceOptions)
    publishers: int = 32
    max_bitrate: int = 8000
    connect_seconds: float = 15.0
    silent_seconds: float = 300.0
    """Without a picture."""


class PublisherConnection:
    """A publisher of `video_id`. `answer`, then `watch` until it is over, then `close`; all in one task.

    `session_id` is secret enough to be an address. `entity_tag`: of the ICE session, as WHIP needs it.
    """

    def __init__(self, video_id: str, options: WebRtcOptions) -> None:
        self.video_id = video_id
        self.session_id = secrets.token_urlsafe(16)
        self.entity_tag = f'"{secrets.token_hex(8)}"'
        self.pictures: PictureBuffer | None = None
        self.connected = False
        self._options = options
        self._peer: RTCPeerConnection | None = None
        self._way: RuledConnection | None = None
        self._over = asyncio.Event()
        self._reason = ""
        self._username = ""

    async def answer(self, offer: bytes, feed: LiveFeed) -> str:
        """The answer to `offer`. Raises OfferError, NoCommonCodecError, NoAddressError, TimeoutError."""
        text, description = check_offer(offer)
        if not sends_video(description):
            raise NoCommonCodecError(
                "the offer sends no video: it needs a video track, `sendonly` or `sendrecv`"
            )
        if any(media.kind == "application" for media in description.media):
            raise NoCommonCodecError("a publisher's offer holds video and sound only, no data channel")
        self._username = username_of(description)
        self._peer = new_peer()
        async with asyncio.timeout(_ANSWER_SECONDS):
            await take_offer(self._peer, text)
            self.pictures = tap(self._peer, feed.publish)
            feed.ask_keyframe = self.pictures.want_keyframe
            made, self._way = await answer(self._peer, self._options.ice)
            # It gets next to nothing from us, and is left when nothing is heard. FFmpeg answers no check from its first
            # DTLS message on, which may come before our check does.
            self._way.checks_consent = False
        most = self._options.max_bitrate
        return with_bitrate(made, min(START_KILOBITS, most), most)

    async def trickle(self, fragment: Fragment) -> None:
        """More ways to the peer. Those of another ICE session are not taken."""
        if self._peer is not None and fragment.username in ("", self._username):
            await add_candidates(self._peer, fragment.candidates)

    def end(self, reason: str = "") -> None:
        """`reason`: why it is over; empty where its publisher ended it. The first one counts."""
        if not self._over.is_set():
            self._reason = reason
            self._over.set()

    async def watch(self, feed: LiveFeed) -> str:
        """Until it is over; why."""
        begun = time.monotonic()
        counted, counted_at = 0, begun
        while not self._over.is_set():
            now = time.monotonic()
            if now - counted_at >= _RATE_SECONDS:
                self._check_rate((self._received - counted) / (now - counted_at))
                counted, counted_at = self._received, now
            self._check_signs_of_life(now, begun)
            if feed.dismissed.is_set():
                self.end(feed.dismissal or "the video takes no more")
            elif feed.ended:
                self.end(feed.reason)
            try:
                async with asyncio.timeout(_TICK):
                    await self._over.wait()
            except TimeoutError:
                continue
        return self._reason

    async def close(self) -> None:
        self.end("closed")
        if self._peer is not None:
            await close_peer(self._peer)

    @property
    def _received(self) -> int:
        return self.pictures.bytes if self.pictures else 0

    def _check_signs_of_life(self, now: float, begun: float) -> None:
        assert self._peer is not None and self._way is not None and self.pictures is not None
        state = self._peer.connectionState
        self.connected = state == "connected"
        if state in ("failed", "closed"):
            self.end("the connection is closed" if state == "closed" else "no connection could be made")
        elif not self.connected and now - begun > self._options.connect_seconds:
            self.end(
                f"no connection within {self._options.connect_seconds:g} s: do the ICE candidates reach?"
            )
        elif self.connected and now - self._way.heard_at > _DEAD_SECONDS:
            self.end(f"nothing was heard of the publisher for {_DEAD_SECONDS:g} s")
        elif now - max(begun, self.pictures.picture_at) > self._options.silent_seconds:
            self.end(f"no picture for {self._options.silent_seconds:g} s")
        elif any(len(one.getSynchronizationSources()) > _SENDERS for one in self._peer.getReceivers()):
            self.end(f"more than {_SENDERS} senders in one track")

    def _check_rate(self, rate: float) -> None:
        """`rate`: bytes a second."""
        kilobits = rate * 8 / 1000
        if kilobits > _RATE_SLACK * self._options.max_bitrate:
            self.end(f"{kilobits:.0f} kb/s came; at most {self._options.max_bitrate} kb/s may")
