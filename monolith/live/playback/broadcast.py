"""One live video for all who watch it: its encoders, each started with the first viewer who needs it and stopped with
the last, and its results, read once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from monolith.live.feeds import LiveFeed, LiveFeeds
from monolith.live.packets import Codec
from monolith.live.playback.encoder_places import EncoderPlaces
from monolith.live.playback.messages import Begin, Found, OutCodec
from monolith.live.playback.results import LiveResult, LiveResults, keep_following
from monolith.live.playback.shared_encoder import SharedEncoder

_LATEST: Final = 0.5
"""Seconds; pictures that are later than that are not encoded any more."""

Listener: TypeAlias = Callable[[LiveResult], None]


@dataclass(frozen=True, kw_only=True)
class PlaybackOptions:
    """Times in seconds. `player_delay`: by so much players lag behind, so that boxes are there with their picture.
    `longest_group`: see `pass_through`. `max_height`: pixels of what is encoded; `small_height`, `small_bits` a
    second: for viewers whose network carries no more. `viewers`, `encoders` (processes): at most, of all videos.
    `viewers_per_client`: of one address beyond this machine; `connecting_per_client`: of one address, not connected
    yet; `offer_rate` a second, `offer_burst` at once: new viewers of one address.
    `publisher_patience`: so long viewers wait for a publisher who is gone."""

    player_delay: float = 0.5
    longest_group: float = 2.0
    max_height: int = 720
    small_height: int = 360
    small_bits: int = 400_000
    viewers: int = 100
    encoders: int = 16
    viewers_per_client: int = 50
    connecting_per_client: int = 16
    offer_rate: float = 2.0
    offer_burst: int = 20
    publisher_patience: float = 30.0
    connect_timeout: float = 15.0
    viewer_silence: float = 10.0


@dataclass
class _Shared:
    encoder: SharedEncoder
    users: int = 0


class Broadcast:
    """Of one video."""

    def __init__(
        self,
        video_id: str,
        feeds: LiveFeeds,
        results: LiveResults,
        options: PlaybackOptions,
        places: EncoderPlaces,
    ) -> None:
        self.video_id = video_id
        self.options = options
        self._feeds = feeds
        self._results = results
        self._places = places
        self._encoders: dict[tuple[LiveFeed, OutCodec, bool, bool], _Shared] = {}
        self._listeners: set[Listener] = set()
        self._following: asyncio.Task[None] | None = None

    def published_codec(self) -> Codec | None:
        """None where nothing has come yet."""
        feed = self._feeds.get(self.video_id)
        group = feed.newest_group if feed is not None else []
        return group[-1].format.codec if group else None

    async def publisher(self) -> LiveFeed | None:
        """What is published now; None where nobody published anything for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.publisher_patience):
                return await self._feeds.wait_for(self.video_id)
        return None

    @asynccontextmanager
    async def encoded(
        self, feed: LiveFeed, codec: OutCodec, *, overlay: bool, small: bool = False
    ) -> AsyncIterator[SharedEncoder]:
        """The encoder that all share who want the same; it runs as long as somebody is in this context.

        Raises NoEncoderError.
        """
        key = feed, codec, overlay, small
        shared = self._encoders.get(key)
        if shared is None or shared.encoder.output.ended:
            shared = self._encoders[key] = _Shared(self._start(feed, *key[1:]))
        shared.users += 1
        try:
            with self.listening(_draw(shared.encoder)) if overlay else contextlib.nullcontext():
                yield shared.encoder
        finally:
            shared.users -= 1
            if not shared.users:
                if self._encoders.get(key) is shared:
                    del self._encoders[key]
                try:
                    await shared.encoder.stop()
                finally:
                    self._places.leave(shared.encoder)

    def _start(self, feed: LiveFeed, codec: OutCodec, overlay: bool, small: bool) -> SharedEncoder:
        options = self.options
        delay = options.player_delay if overlay else 0.0
        height = min(options.max_height, options.small_height) if small else options.max_height
        begin = Begin(codec, overlay, height, delay + _LATEST, options.small_bits if small else 0)
        encoder = SharedEncoder(feed, begin, delay=delay)
        self._places.enter(encoder)
        return encoder

    def may_encode(self, feed: LiveFeed, codec: OutCodec, *, overlay: bool, small: bool) -> bool:
        """Whether there is such an encoder, or room for one."""
        return (feed, codec, overlay, small) in self._encoders or not self._places.full

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """`listener` is called with each result, from now on; what it is called with twice counts once."""
        self._listeners.add(listener)
        if self._following is None or self._following.done():
            following = keep_following(self._results, self.video_id, self._tell)
            self._following = asyncio.create_task(following, name=f"live results of {self.video_id}")
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._following is not None:
                self._following.cancel()
                self._following = None

    def _tell(self, result: LiveResult) -> None:
        for listener in tuple(self._listeners):
            listener(result)


def _draw(encoder: SharedEncoder) -> Listener:
    def draw(result: LiveResult) -> None:
        if result.time.noted >= encoder.opened_at:  # times of earlier connections say nothing in this one
            time = result.time
            encoder.show(Found(time.milliseconds, result.model, time.height, result.detections))

    return draw
