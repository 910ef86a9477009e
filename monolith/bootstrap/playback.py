"""Wires what plays live video."""

from __future__ import annotations

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from monolith.bootstrap.ice import ice_options
from monolith.live.feeds import LiveFeeds
from monolith.live.playback.broadcast import PlaybackOptions
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.playback.results import LiveResults
from monolith.live.playback.sessions import Viewers
from monolith.settings import Settings


def viewers_of(
    settings: Settings, feeds: LiveFeeds, store: EventStore, codec: EventCodec, times: FrameTimes
) -> Viewers:
    """Nothing is started before the first viewer. Use as `async with`."""
    options = PlaybackOptions(
        player_delay=settings.player_delay_ms / 1000,
        longest_group=settings.pass_through_group_seconds,
        max_height=settings.playback_max_height,
        small_height=settings.playback_small_height,
        small_bits=settings.playback_small_bitrate,
        viewers=settings.max_viewers,
        encoders=settings.max_live_encoders,
        viewers_per_client=settings.max_viewers_per_client,
        connect_timeout=settings.webrtc_connect_timeout,
    )
    return Viewers(feeds, LiveResults(store, codec, times), ice_options(settings), options)
