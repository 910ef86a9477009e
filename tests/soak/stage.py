"""What the acts of the soak play on: the program, clips, endpoints, and what is to become of each video."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from tests.program import Server
from tests.soak.raw import Wire, wire_to

PICTURES: Final = 50
"""Of a clip: two seconds."""
FRAME_STEP: Final = 5
SILENCE: Final = 15.0
"""Seconds until a publisher that does not come again has ended its video."""
NOBODY: Final = 25.0
"""Seconds until an endpoint without a publisher is given up."""
SETTINGS: Final = {
    "PRECISION": "f32",
    "SEGMENT_SECONDS": "1",
    "LIVE_SILENCE": f"{SILENCE:g}",
    "PUBLISH_WAIT": f"{NOBODY:g}",
    "RTMP_HANDSHAKE_TIMEOUT": "10",
    "RTMP_IDLE_TIMEOUT": "8",
    "RTMP_MAX_CONNECTIONS_PER_CLIENT": "48",
    "WEBRTC_CONNECT_TIMEOUT": "15",
}

COMPLETED: Final = frozenset({"Completed"})
ENDED: Final = frozenset({"Completed", "Failed"})
DELETED: Final = frozenset({"deleted"})
Ends = frozenset[str]


@dataclass(frozen=True)
class Endpoint:
    """`url`: of RTMP with the key, or of WHIP; `secret`: the key, or the token."""

    video_id: str
    url: str
    secret: str


class Clips(NamedTuple):
    """Small videos; picture n shows n. `plain`: H.264 that is passed through to viewers; `b_frames`: encoded anew."""

    plain: Path
    b_frames: Path


@dataclass
class Stage:
    """`expected`: how each video that was submitted may end."""

    server: Server
    client: httpx.AsyncClient
    folder: Path
    clips: Clips
    expected: dict[str, Ends] = field(default_factory=dict)
    on_air: set[str] = field(default_factory=set)
    """Videos that someone publishes, as far as the acts know: to watch."""
    rtmp_port: int = 0
    """Known once an endpoint was asked for."""
    _logs: int = 0

    @property
    def log(self) -> Path:
        """A new file for what a publisher says."""
        self._logs += 1
        return self.folder / f"peer-{self._logs % 64}.log"

    async def rtmp(self, ends: Ends = COMPLETED) -> Endpoint:
        made = await self._made("rtmp-endpoint", ends)
        url = str(made["rtmp_endpoint"])
        self.rtmp_port = int(url.split(":")[2].split("/")[0])
        return Endpoint(made["video_id"], url, url.rpartition("/")[2])

    async def whip(self, ends: Ends = COMPLETED) -> Endpoint:
        made = await self._made("webrtc-endpoint", ends)
        return Endpoint(made["video_id"], str(made["whip_endpoint"]), str(made["token"]))

    def wire(self, own_address: str = "127.0.0.1") -> AbstractAsyncContextManager[Wire]:
        """A raw RTMP connection, from one of this machine's addresses."""
        return wire_to(self.rtmp_port, own_address)

    def may_end(self, endpoint: Endpoint, ends: Ends) -> None:
        self.expected[endpoint.video_id] = ends

    @asynccontextmanager
    async def airing(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Viewers may come meanwhile."""
        self.on_air.add(endpoint.video_id)
        try:
            yield
        finally:
            self.on_air.discard(endpoint.video_id)

    async def status(self, video_id: str) -> dict[str, Any]:
        body: dict[str, Any] = (await self.client.get(f"/analysis/{video_id}")).raise_for_status().json()
        return body

    async def until(
        self, endpoint: Endpoint, wanted: Callable[[dict[str, Any]], bool], seconds: float = 90
    ) -> dict[str, Any]:
        """Its status when it is as `wanted`. Raises TimeoutError with the last one."""
        body: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while not wanted(body := await self.status(endpoint.video_id)):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise TimeoutError(str(body)) from error
        return body

    async def until_connected(self, endpoint: Endpoint, connections: int = 1) -> None:
        await self.until(endpoint, lambda body: body["connections"] >= connections)

    async def _made(self, path: str, ends: Ends) -> dict[str, Any]:
        body = {"modelsToRun": ["color_detection"], "frameStep": FRAME_STEP}
        answer = await self.client.post(f"/analysis/{path}", json=body)
        made: dict[str, Any] = answer.raise_for_status().json()
        self.expected[made["video_id"]] = ends
        return made


Act = Callable[[Stage, random.Random], Awaitable[None]]
"""One thing that publishers, viewers or attackers do, from its beginning to its end."""
