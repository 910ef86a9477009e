"""One viewer: a peer connection that carries the pictures, and the results on a data channel.

The viewer opens the channel, named `results`, as reliable as it likes. Every message is a JSON object; its `type` says
which: `ViewerHello`, once, then `ViewerResults`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiortc import RTCDataChannel, RTCPeerConnection, RTCRtpSender
from aiortc.sdp import SessionDescription

from monolith.live.playback.broadcast import Broadcast
from monolith.live.playback.outlets import ChannelOutlet, Outlet, WaitingOutlet
from monolith.live.playback.results import LiveResult
from monolith.live.playback.viewer import ViewerTrack
from monolith.live.playback.viewer_messages import (
    ClockPoint,
    ViewerHello,
    ViewerResults,
    clock_point,
    viewer_results,
)
from monolith.live.webrtc.ice import IceOptions, RuledConnection
from monolith.live.webrtc.intake import Intake
from monolith.live.webrtc.peers import add_candidates, answer, close_peer, new_peer, take_offer
from monolith.live.webrtc.sdp import Fragment, NoCommonCodecError, OfferError, username_of
from monolith.waiting import first_of

CHANNEL: Final = "results"
_WATCH_SECONDS: Final = 1.0
_WAITING_RESULTS: Final = 256
_MOST_PARTS: Final = 4
"""Of an offer: pictures, sound, data, and one more. Each costs a transport until the answer."""
_SENT_RATE: Final = 50e3
_SENT_AT_ONCE: Final = 64e3
"""Bytes that a viewer may send, a second and at once. Reports and receipts take a tenth of it."""
_MOST_CHANNELS: Final = 8

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Client:
    """Who asks to watch. `address`: what counts as one client, empty for the program itself; `key_id`: of its API key,
    None where none is asked for; `allowed`: whether it still may watch, asked once a second."""

    address: str = ""
    key_id: str | None = None
    allowed: Callable[[], bool] = lambda: True


ITSELF: Final = Client()
"""The program."""


class Session:
    """From the offer to the end. `run` until it ends; `close` to end it."""

    def __init__(
        self, broadcast: Broadcast, ice: IceOptions, *, overlay: bool, client: Client = ITSELF
    ) -> None:
        self.session_id = secrets.token_urlsafe(18)
        """Secret enough to be an address."""
        self.entity_tag = f'"{secrets.token_hex(8)}"'
        """Of the ICE session, for HTTP."""
        self.broadcast = broadcast
        self.peer: RTCPeerConnection = new_peer()
        self.track = ViewerTrack(broadcast, overlay=overlay, on_sent=self._send_waiting)
        self.results_left_out = 0
        self.clock_point: ClockPoint | None = None
        """Of the newest picture with a result, whose RTP time is in step with those after it; None before the first."""
        self._ice = ice
        self.client = client
        self._way: RuledConnection | None = None
        self._outlets: list[Outlet] = []
        self._has_channel = False
        self._channels = 0
        self._username = ""
        self._since = 0.0
        self._waiting: OrderedDict[int, deque[LiveResult]] = OrderedDict()
        self._ended = asyncio.Event()
        self._connected = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    async def answer(self, offer: str, description: SessionDescription) -> str:
        """Raises OfferError, NoCommonCodecError."""
        _check_wanted(description)
        self._username = username_of(description)
        sender = self.peer.addTrack(self.track)
        self.track.sent_by(sender)
        (transceiver,) = self.peer.getTransceivers()
        transceiver.direction = "sendonly"
        transceiver.setCodecPreferences(_preferred(self.broadcast))
        self.peer.on("datachannel", self._open_channel)
        self.peer.on("connectionstatechange", self._state_changed)
        self.track.on("ended", self._ended.set)
        await take_offer(self.peer, offer)
        for other in self.peer.getTransceivers():
            if other is not transceiver:  # a viewer has nothing to send
                other.direction = "inactive"
        text, self._way = await answer(self.peer, self._ice)
        self._way.intake = Intake(_SENT_RATE, _SENT_AT_ONCE)
        self.track.codec = _agreed(text)
        return text

    @property
    def connected(self) -> bool:
        """Whether it is, or was."""
        return self._connected.is_set()

    async def trickle(self, fragment: Fragment) -> None:
        """More ways to the viewer. Those of another ICE session are not taken."""
        if fragment.username in ("", self._username):
            await add_candidates(self.peer, fragment.candidates)

    async def run(self) -> str:
        """Until the viewer is gone, or nothing is published any more; why it ended."""
        options = self.broadcast.options
        try:
            async with asyncio.timeout(options.connect_timeout):
                await first_of(self._connected, self._ended)
        except TimeoutError:
            return f"not connected within {options.connect_timeout:g} s"
        with self.broadcast.listening(self._take):
            while not self._ended.is_set():
                if why := self._why_not():
                    return why
                try:
                    async with asyncio.timeout(_WATCH_SECONDS):
                        await self._ended.wait()
                except TimeoutError:
                    continue
        return "ended"

    def _why_not(self) -> str:
        """Why it has to end now; empty where it has not."""
        if not self.client.allowed():
            return "the key that let the viewer in is not valid any more"
        silence = self.broadcast.options.viewer_silence
        if self._silence() > silence:
            return f"the viewer was silent for {silence:g} s"
        if self._way is not None and self._way.intake is not None and self._way.intake.exceeded:
            return f"the viewer sent more than {_SENT_RATE / 1000:g} kB/s"
        if self._channels > _MOST_CHANNELS:
            return f"the viewer opened more than {_MOST_CHANNELS} data channels"
        return ""

    async def close(self) -> None:
        """Never raises. Idempotent; where the caller is cancelled, it goes on."""
        self._ended.set()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="end of a viewer")
        await asyncio.wait({self._closing})

    async def _close(self) -> None:
        await close_peer(self.peer)
        await self.track.close()

    def _silence(self) -> float:
        return 0.0 if self._way is None else time.monotonic() - self._way.heard_at

    def _state_changed(self) -> None:
        if self.peer.connectionState == "connected":
            self._connected.set()
        elif self.peer.connectionState in ("failed", "closed"):
            self._ended.set()

    @contextmanager
    def listening(self) -> Iterator[WaitingOutlet]:
        """The messages of the data channel once more: `ViewerHello`, then `ViewerResults`, until the session ends."""
        outlet = WaitingOutlet()
        outlet.send(_encode(self._hello()))
        self._outlets.append(outlet)
        ending = asyncio.create_task(self._ended.wait(), name="end of a viewer's messages")
        ending.add_done_callback(lambda _: outlet.end())
        try:
            yield outlet
        finally:
            self._outlets.remove(outlet)
            ending.cancel()

    def _open_channel(self, channel: RTCDataChannel) -> None:
        self._channels += 1
        if channel.label == CHANNEL and not self._has_channel:
            self._has_channel = True
            outlet = ChannelOutlet(channel)
            outlet.send(_encode(self._hello()))
            self._outlets.append(outlet)

    @property
    def player_delay_ms(self) -> int:
        return round(self.broadcast.options.player_delay * 1000)

    def _hello(self) -> ViewerHello:
        return ViewerHello(self.broadcast.video_id, self.player_delay_ms)

    def _take(self, result: LiveResult) -> None:
        """It waits until its picture has gone out."""
        if result.time.noted < self._since:
            return
        self._waiting.setdefault(result.time.milliseconds, deque()).append(result)
        if len(self._waiting) > _WAITING_RESULTS:
            self._waiting.popitem(last=False)
        self._send_waiting()

    def _send_waiting(self) -> None:
        self._forget_earlier()
        for milliseconds in tuple(self._waiting):
            timestamp = self.track.rtp_timestamp(milliseconds)
            if timestamp is not None:
                arrived = self.track.clock.arrived(milliseconds) or 0.0
                for result in self._waiting.pop(milliseconds):
                    self._send(results := viewer_results(result, timestamp, arrived))
                    if self.track.clock.in_step(milliseconds):
                        self.clock_point = clock_point(results)
            elif self.track.clock.is_past(milliseconds):
                del self._waiting[milliseconds]

    def _forget_earlier(self) -> None:
        """Results of connections before the one that is shown: its pictures may have the same times."""
        since = self.track.opened_at
        if since == self._since:
            return
        self._since = since
        for milliseconds, results in tuple(self._waiting.items()):
            kept = deque(one for one in results if one.time.noted >= since)
            if kept:
                self._waiting[milliseconds] = kept
            else:
                del self._waiting[milliseconds]

    def _send(self, results: ViewerResults) -> None:
        if self._outlets:
            message = _encode(results)
            self.results_left_out += sum(not outlet.send(message) for outlet in self._outlets)


def _check_wanted(description: SessionDescription) -> None:
    """Raises OfferError."""
    if len(description.media) > _MOST_PARTS:
        raise OfferError(
            f"the offer has more than {_MOST_PARTS} `m=` lines: one for video, one for data are enough"
        )
    video = next((media for media in description.media if media.kind == "video"), None)
    if video is None or not video.port or video.direction not in ("recvonly", "sendrecv"):
        raise OfferError("the offer asks for no video: its first `m=video` has to be recvonly")


def _preferred(broadcast: Broadcast) -> list[Any]:
    """H.264 first, but where the publisher sends VP8: what needs no encoder."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    first = "video/vp8" if broadcast.published_codec() == "vp8" else "video/h264"
    return sorted(codecs, key=lambda codec: codec.mimeType.lower() != first)


def _agreed(answer_sdp: str) -> Any:
    for media in SessionDescription.parse(answer_sdp).media:
        if media.kind == "video" and media.port:
            name = media.rtp.codecs[0].name.lower()
            if name in ("h264", "vp8"):
                return name
    raise NoCommonCodecError(
        "the offer's video has no codec that is sent: VP8 or H.264 (packetization-mode=1)"
    )
