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

    def vanish(self) -> None:
        """Without a word: nothing is sent or received any more."""
        transport: Any = self._transceiver.receiver.transport
        for protocol in transport.transport.iceGatherer._connection._protocols:
            protocol.transport.abort()

    async def lose(self) -> None:
        """Tell the sender that pictures were lost (PLI)."""
        receiver: Any = self._transceiver.receiver
        for source in receiver.getSynchronizationSources():
            await receiver._send_rtcp_pli(source.source)

    async def picture(self, seconds: float = 60) -> VideoFrame:
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


PAGE_SCRIPT = """
function iceServers(link) {
  return (link ?? "").split(/, (?=<)/).filter((one) => one.includes('rel="ice-server"')).map((one) => ({
    urls: one.match("<([^>]+)>")[1],
    username: one.match('username="([^"]*)"')?.[1],
    credential: one.match('credential="([^"]*)"')?.[1],
  }));
}
async function watch(endpoint, how = {}) {
  const peer = new RTCPeerConnection(how);
  peer.addTransceiver("video", { direction: "recvonly" });
  const channel = peer.createDataChannel("results");
  const video = document.createElement("video");
  const watching = (window.watching = { peer, messages: [], pictures: [], session: null });
  channel.onmessage = ({ data }) => watching.messages.push(JSON.parse(data));
  video.muted = true;
  document.body.append(video);
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  const context = new OffscreenCanvas(320, 240).getContext("2d", { willReadFrequently: true });
  const look = (now, { rtpTimestamp, width, height, expectedDisplayTime }) => {
    context.drawImage(video, 0, 0, 320, 240);
    const bits = [60, 180].map((y) => Array.from({ length: 8 }, (_, i) =>
      context.getImageData(20 + i * 40, y, 1, 1).data[1] > 127 ? 1 : 0));
    const [number, check] = bits.map((row) => parseInt(row.join(""), 2));
    const right = check === (number * 37 + 101) % 256;
    watching.pictures.push({ rtpTimestamp, width, height, number: right ? number : null,
                             at: performance.timeOrigin + expectedDisplayTime });
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const found = [];
  const tell = (candidate) => fetch(watching.session, {
    method: "PATCH",
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": watching.etag },
    body: `a=ice-ufrag:${candidate.usernameFragment}\\r\\nm=video 9 UDP/TLS/RTP/SAVPF 0\\r\\n` +
      `a=mid:${candidate.sdpMid}\\r\\na=${candidate.candidate}\\r\\n`,
  }).then(({ status }) => { watching.patched = status; });
  peer.onicecandidate = ({ candidate }) => {
    if (candidate?.candidate) watching.session ? tell(candidate) : found.push(candidate);
  };
  const offer = await peer.createOffer();
  const answer = await fetch(endpoint, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: offer.sdp,
  });
  if (answer.status !== 201) return { status: answer.status, body: await answer.text() };
  peer.setConfiguration({ ...how, iceServers: iceServers(answer.headers.get("Link")) });
  watching.session = new URL(answer.headers.get("Location"), endpoint).href;
  watching.etag = answer.headers.get("ETag");
  await peer.setLocalDescription(offer);
  found.forEach(tell);
  addEventListener("pagehide", () => fetch(watching.session, { method: "DELETE", keepalive: true }));
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  return { status: answer.status };
}
async function seen() {
  const reports = [...(await watching.peer.getStats()).values()];
  const video = reports.find((one) => one.type === "inbound-rtp" && one.kind === "video");
  return {
    state: watching.peer.connectionState, decoded: video?.framesDecoded ?? 0, messages: watching.messages,
    pictures: watching.pictures, patched: watching.patched,
    codec: reports.find((one) => one.id === video?.codecId)?.mimeType,
  };
}
"""
"""For a browser's page: `watch` an endpoint; `seen` says what came, with the number in each picture that was shown."""
