"""Wires what publishers push to the program: who may, who does, and how decoder processes get it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

from monolith.access.refusals import Refusals
from monolith.application.handlers import VideoHandlers
from monolith.application.ports import Secrets
from monolith.application.publish_claims import PublishClaims
from monolith.application.push_sources import PushSources
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.ice import ice_options
from monolith.live.feeds import LiveFeeds
from monolith.live.handover import FeedHandover
from monolith.live.rtmp_server import RtmpOptions, RtmpServer
from monolith.live.webrtc.publishers import WebRtcPublishers
from monolith.live.webrtc.publishing import WebRtcOptions
from monolith.settings import Settings

_SOCKET: Final = Path("run", "live.sock")


class Publishing(NamedTuple):
    """`sources`: videos that are pushed, and their publishers; `handover`: to decoder processes; `webrtc`: those who
    publish by WebRTC; `rtmp`: where those come in who publish by RTMP, None where the settings want none."""

    sources: PushSources
    handover: FeedHandover
    webrtc: WebRtcPublishers
    rtmp: RtmpServer | None


async def publishing_of(
    stack: AsyncExitStack,
    settings: Settings,
    folder: Path,
    handlers: VideoHandlers,
    streams: VideoStreams,
    secrets: Secrets,
    claims: PublishClaims,
    refusals: Refusals,
) -> Publishing:
    """`folder`: the data directory. `stack` ends what is started. Raises OSError where there can be no socket."""
    sources = PushSources(handlers, streams, secrets, LiveFeeds(), claims)
    handover = FeedHandover(sources, folder / _SOCKET)
    await stack.enter_async_context(handover.serving())
    webrtc = await stack.enter_async_context(WebRtcPublishers(sources, webrtc_options(settings)))
    rtmp = RtmpServer(sources, rtmp_options(settings), refusals) if settings.rtmp else None
    return Publishing(sources, handover, webrtc, rtmp)


def rtmp_options(settings: Settings) -> RtmpOptions:
    return RtmpOptions(
        host=settings.rtmp_host or settings.host,
        port=settings.rtmp_port,
        max_connections=settings.rtmp_max_connections,
        max_connections_per_client=settings.rtmp_max_connections_per_client,
        handshake_timeout=settings.rtmp_handshake_timeout,
        idle_timeout=settings.rtmp_idle_timeout,
        max_bitrate=settings.rtmp_max_bitrate,
        public_url=settings.rtmp_public_url,
    )


def webrtc_options(settings: Settings) -> WebRtcOptions:
    return WebRtcOptions(
        ice=ice_options(settings),
        publishers=settings.webrtc_publishers,
        max_bitrate=settings.webrtc_max_bitrate,
        connect_seconds=settings.webrtc_connect_timeout,
        silent_seconds=settings.live_silence,
    )
