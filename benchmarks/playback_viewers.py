"""Viewers for `benchmarks.playback`, in a process of their own: they take pictures and decode none.

One line of JSON each way: our offers, the answers; then, for each viewer, seconds until its first picture came.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, ClassVar

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcrtpreceiver
from aiortc.jitterbuffer import JitterFrame
from av.frame import Frame


class _Undecoded:
    """In the place of aiortc's decoders."""

    first: ClassVar[list[float]] = []

    def __init__(self) -> None:
        self._any = False

    def decode(self, encoded_frame: JitterFrame) -> list[Frame]:
        if not self._any:
            self._any = True
            self.first.append(time.monotonic())
        return []


async def main(count: int) -> None:
    setattr(rtcrtpreceiver, "get_decoder", lambda codec: _Undecoded())  # noqa: B010
    peers = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(count)]
    for peer in peers:
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
    asked = time.monotonic()
    answers: list[str] = await _ask([peer.localDescription.sdp for peer in peers])
    for peer, answer in zip(peers, answers, strict=True):
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    while len(_Undecoded.first) < count:
        await asyncio.sleep(0.005)
    await _ask([moment - asked for moment in _Undecoded.first])
    for peer in peers:
        await peer.close()


async def _ask(message: Any) -> Any:
    print(json.dumps(message), flush=True)
    return json.loads(await asyncio.to_thread(sys.stdin.readline))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
