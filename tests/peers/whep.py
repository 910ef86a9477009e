"""A viewer (WHEP) made of aiortc: what it is offered, and the pictures and results that come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from av.video.frame import VideoFrame

Signal = Callable[[str], Awaitable[str]]
"""Offer → answer."""


class Viewer:
    """Use as `async with`."""

    def __init__(self, *, codec: str | None = None) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._transceiver = self.peer.addTransceiver("video", direction="recvonly")
        if codec is not None:
            known = RTCRtpReceiver.getCapabilities("video")
            assert known is not None
            wanted = [one for one in known.codecs if one.mimeType.lower() == f"video/{codec}"]
            self._transceiver.setCodecPreferences(wanted)
        self.messages: list[dict[str, Any]] = []
        self.channel = self.peer.createDataChannel("results")
        self.channel.on("message", lambda text: self.messages.append(json.loads(text)))

    async def watch(self, signal: Signal) -> str:
        """Offer, take the answer; the answer."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        answer = await signal(self.peer.localDescription.sdp)
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return answer

    def rtp_timestamp(self, picture: VideoFrame) -> int:
        """As it came; aiortc lets the pts of pictures begin with 0."""
        mapper: Any = self._transceiver.receiver._RTCRtpReceiver__timestamp_mapper  # type: ignore[attr-defined]
        return ((picture.pts or 0) + int(mapper._origin)) & 0xFFFFFFFF

    async def picture(self, seconds: float = 20) -> VideoFrame:
        """The next one."""
        async with asyncio.timeout(seconds):
            picture = await self._transceiver.receiver.track.recv()
        assert isinstance(picture, VideoFrame)
        return picture

    async def __aenter__(self) -> Viewer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.peer.close()
