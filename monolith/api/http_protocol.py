"""uvicorn's HTTP protocol with bounds that it lacks: on headers, in size and time, and on connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from monolith.access.rates import client_of, is_this_machine

MAX_HEADER_BYTES: Final = 64 * 1024
"""Of request line and headers together, as common servers allow."""
HEADER_SECONDS: Final = 30.0
"""In which they must have come."""
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
    b"Too many connections from your address.\n"
)


class ClientConnections:
    """How many connections each client beyond this machine has open; `limit` at most, 0: any number.

    `count_local`: those of this machine count, too. A proxy on it speaks for many clients.
    """

    def __init__(self, limit: int = 0, *, count_local: bool = False) -> None:
        self._limit = limit
        self._count_local = count_local
        self._open: Counter[str] = Counter()

    def twin(self) -> ClientConnections:
        """The same rule, with a count of its own."""
        return ClientConnections(self._limit, count_local=self._count_local)

    def enter(self, address: str) -> bool:
        """False: no more from there. Otherwise `leave` must follow."""
        client = client_of(address)
        if (
            self._limit
            and self._open[client] >= self._limit
            and (self._count_local or not is_this_machine(client))
        ):
            return False
        self._open[client] += 1
        return True

    def leave(self, address: str) -> None:
        client = client_of(address)
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    def __len__(self) -> int:
        """How many clients are connected."""
        return len(self._open)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 400 and closes when a request's headers do not end, closes when they do not come; answers 503 to a client
    that has too many connections."""

    clients = ClientConnections()
    header_seconds = HEADER_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers = False
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._entered: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self.clients.enter(address):
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._entered = address
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        if self._entered is not None:
            self.clients.leave(self._entered)
            self._entered = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_headers:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request's headers are longer than {MAX_HEADER_BYTES} bytes.")

    def on_message_begin(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        if self._deadline is None:
            self._expect_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._expect_nothing()
        super().on_headers_complete()

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_protocol(connections: ClientConnections) -> type[BoundedHttpProtocol]:
    """The protocol of one server."""
    return type("ServersHttpProtocol", (BoundedHttpProtocol,), {"clients": connections})
