"""Where RTMP publishers come in: listens, lets in as many as may be, looks after those who are slow.

A port that cannot be had (another program has it) is tried again every few seconds: the rest of the program works
without it, and whoever asks for an endpoint meanwhile is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from monolith.access.refusals import Refusals
from monolith.application.push_sources import PushSources
from monolith.live.rtmp_connection import RtmpConnection

_TICK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 5.0
_LINES_A_SECOND: Final = 5.0
_LINES_AT_ONCE: Final = 50.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RtmpOptions:
    """See the settings of the same names. Times in seconds, `max_bitrate` in kilobits a second."""

    host: str = "127.0.0.1"
    port: int = 1935
    max_connections: int = 128
    max_connections_per_client: int = 32
    handshake_timeout: float = 10.0
    idle_timeout: float = 30.0
    max_bitrate: int = 50_000
    public_url: str = ""


class RtmpServer:
    """`async with server.serving()`. `port`: 0 while it does not listen; `problem`: why, for users. `refusals`: where
    wrong keys are counted, by address."""

    def __init__(self, sources: PushSources, options: RtmpOptions, refusals: Refusals | None = None) -> None:
        self._sources = sources
        self._access_refusals = refusals
        self._options = options
        self._server: asyncio.Server | None = None
        self._connections: set[RtmpConnection] = set()
        self._log = _Log()
        self.port = 0
        self.problem = "this program does not serve RTMP"
        self.accepted = 0
        self.received = 0
        """Bytes."""
        self.refusals: Counter[str] = Counter()
        """Why → how many connections and publishes were refused."""

    @property
    def public_url(self) -> str | None:
        return self._options.public_url or None

    @property
    def publishing(self) -> int:
        return sum(connection.publishing for connection in self._connections)

    @property
    def others(self) -> int:
        """Connections that do not publish, or not yet."""
        return len(self._connections) - self.publishing

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.Task[None]]:
        """Gives a task that ends only by its failure."""
        await self._listen()
        looking_after = asyncio.create_task(self._look_after(), name="RTMP connections")
        try:
            yield looking_after
        finally:
            looking_after.cancel()
            await asyncio.wait({looking_after})
            await self._stop()

    def admit(self, connection: RtmpConnection) -> str:
        options = self._options
        here = sum(one.client == connection.client for one in self._connections)
        if len(self._connections) >= options.max_connections:
            why = "connections"
        elif here >= options.max_connections_per_client:
            why = "client_connections"
        else:
            self._connections.add(connection)
            self.accepted += 1
            return ""
        self.refusals[why] += 1
        return f"there are too many connections (VIDEO_ANALYSIS_RTMP_MAX_{_SETTINGS[why]})"

    def refused(self, connection: RtmpConnection, why: str, reason: str) -> None:
        self.refusals[why] += 1

    def wrong_key(self, connection: RtmpConnection) -> float:
        refusals = self._access_refusals
        return 0.0 if refusals is None else refusals.wrong("wrong stream key", connection.address)

    def left(self, connection: RtmpConnection, reason: str) -> None:
        self._connections.discard(connection)
        if reason:
            self._log.say(f"the RTMP connection from {connection.address} was closed: {reason}")

    def count(self, received: int) -> None:
        self.received += received

    def _connection(self) -> RtmpConnection:
        return RtmpConnection(
            self,
            self._sources,
            handshake_seconds=self._options.handshake_timeout,
            idle_seconds=self._options.idle_timeout,
            max_bitrate=self._options.max_bitrate,
        )

    async def _listen(self) -> None:
        host, port = self._options.host, self._options.port
        try:
            server = await asyncio.get_running_loop().create_server(self._connection, host, port)
        except OSError as error:
            told, self.problem = self.problem, f"RTMP port {port} cannot be had: {error.strerror or error}"
            if told != self.problem:
                logger.error("%s; it is tried again, or name another VIDEO_ANALYSIS_RTMP_PORT", self.problem)
            return
        self._server, self.port, self.problem = server, server.sockets[0].getsockname()[1], ""
        logger.info("RTMP is taken on %s port %d", host, self.port)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        tried = loop.time()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = loop.time()
            for connection in list(self._connections):
                connection.check(now)
            self._log.tick(now)
            if self._server is None and now - tried > _RETRY_SECONDS:
                tried = now
                await self._listen()

    async def _stop(self) -> None:
        self.port, self.problem = 0, "the program is ending"
        if self._server is not None:
            self._server.close()
            self._server = None
        await asyncio.gather(*(connection.end() for connection in list(self._connections)))


_SETTINGS: Final = {"connections": "CONNECTIONS", "client_connections": "CONNECTIONS_PER_CLIENT"}


class _Log:
    """Lines about peers: some a second at most, whatever they do."""

    def __init__(self) -> None:
        self._credit = _LINES_AT_ONCE
        self._counted = 0.0
        self._unsaid = 0

    def say(self, line: str) -> None:
        if self._credit < 1:
            self._unsaid += 1
            return
        self._credit -= 1
        logger.warning("%s", line)

    def tick(self, now: float) -> None:
        """`now`: of a steady clock, in seconds."""
        passed, self._counted = now - self._counted if self._counted else 0.0, now
        self._credit = min(_LINES_AT_ONCE, self._credit + passed * _LINES_A_SECOND)
        if self._unsaid and self._credit >= 1:
            self._credit -= 1
            logger.warning("%d more RTMP connections were closed for such reasons", self._unsaid)
            self._unsaid = 0
