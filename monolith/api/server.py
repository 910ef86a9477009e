"""uvicorn inside our own event loop: it takes no signals, and ends when told, event streams included."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from monolith.api.http_protocol import BoundedHttpProtocol, ClientConnections, bounded_protocol
from monolith.api.tls_listener import TlsListener

_BACKLOG: Final = 1024
_START_SECONDS: Final = 15.0
_KEEP_ALIVE_SECONDS: Final = 20
_MARGIN_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.1


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, tls: ssl.SSLContext | None, handshakes: ClientConnections
    ) -> None:
        super().__init__(config)
        self.told = asyncio.Event()
        self._tls = tls
        self._handshakes = handshakes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; HTTPS has a listener of its own."""
        if self._tls is None or not sockets:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        self.servers: list[Any] = [
            TlsListener(listener, self._tls, self._protocol, self._handshakes) for listener in sockets
        ]
        self.started = True

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the program, not to its HTTP server."""
        yield

    async def main_loop(self) -> None:
        """As uvicorn's, but it ends when told, not at the next tick."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self.told.wait()

    def end(self) -> None:
        self.should_exit = True
        self.told.set()


class ApiServer:
    """A running HTTP server. `wait` tells its owner when it ends by itself."""

    def __init__(
        self, server: _Server, task: asyncio.Task[None], stopping: asyncio.Event, host: str, port: int
    ) -> None:
        self._server = server
        self._task = task
        self._stopping = stopping
        self.host = host
        self.port = port

    @classmethod
    async def start(
        cls,
        app: ASGIApp,
        *,
        stopping: asyncio.Event,
        host: str = "127.0.0.1",
        port: int = 8000,
        graceful_seconds: int = 10,
        max_connections: int | None = 1000,
        clients: ClientConnections | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> ApiServer:
        """Listen on `host`:`port` (0: any free one). `stopping`: that of ApiServices. `clients`: how many connections
        each may have. `tls`: speak HTTPS, nothing else.

        Raises OSError when the address cannot be used, and what the start of the server raises.
        """
        listener = _listen(host, port)
        try:
            clients = ClientConnections() if clients is None else clients
            config = _config(app, bounded_protocol(clients), graceful_seconds, max_connections)
            server = _Server(config, tls, clients.twin())
            task = asyncio.create_task(server.serve(sockets=[listener]), name="HTTP server")
            await _until_started(server, task)
        except BaseException:
            listener.close()
            raise
        return cls(server, task, stopping, host, listener.getsockname()[1])

    async def wait(self) -> None:
        """Return when the server has ended. Raises what ended it."""
        await asyncio.shield(self._task)

    def hurry(self) -> None:
        """Let `stop` wait for no answer any more."""
        self._server.force_exit = True

    async def stop(self) -> None:
        """End event streams, let other answers finish within the graceful time, close. Idempotent."""
        self._stopping.set()
        self._server.end()
        graceful = self._server.config.timeout_graceful_shutdown or 0
        done, _ = await asyncio.wait((self._task,), timeout=graceful + _MARGIN_SECONDS)
        if not done:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()


def _config(
    app: ASGIApp,
    protocol: type[BoundedHttpProtocol],
    graceful_seconds: int,
    max_connections: int | None,
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful_seconds,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


async def _until_started(server: _Server, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the HTTP server ended before it had started")
            await asyncio.sleep(0.005)
