"""Stands between FFmpeg's RTSP client and the server, so that FFmpeg connects to this machine alone.

FFmpeg by itself follows redirects anywhere, believes the addresses that a server names, and checks no certificate. The
connection to the server is ours (`WatchedSocket`: address checked, TLS verified); the relay passes bytes between it and
one loopback connection, and reads along:

- a redirect (an answer, or a request of the server in the midst of a session) is not passed on but kept, for whoever
  checks where it leads, and ends the session;
- in the answer to SETUP the server's checked address is the only one; multicast ends the session;
- what is no RTSP ends the session;
- refusals, goodbyes and who closed the connection are remembered, since FFmpeg's error codes do not tell.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from monolith.ingest.addresses import Address
from monolith.ingest.checked_network import WatchedSocket
from monolith.ingest.errors import SourceError
from monolith.ingest.rtsp.protocol import Item, Message, RtspError, RtspParser
from monolith.ingest.rtsp.transport_header import MulticastError, pinned

_ACCEPT_SECONDS: Final = 10.0
_STEP_SECONDS: Final = 0.2
_RECEIVE_BYTES: Final = 65_536
_MOST_PENDING: Final = 1 << 20
_END_SECONDS: Final = 2.0


@dataclass
class RelayReport:
    """What the relay has seen. `refusal`: status and phrase of the last answer that was no success, None after one that
    was; `redirect`: where the server wants us to go ("": it does not say); `fault`: why the relay ended the session;
    `goodbye`: the server said that no more comes; `server_closed`: the connection to the server ended before FFmpeg's;
    `heard_at`: when the server last sent something on it (of `time.monotonic`)."""

    refusal: tuple[int, str] | None = None
    redirect: str | None = None
    fault: SourceError | None = None
    goodbye: bool = False
    server_closed: bool = False
    heard_at: float = field(default_factory=time.monotonic)


@dataclass
class _Side:
    """A connection, and what waits to be sent to it."""

    socket: socket.socket | ssl.SSLSocket
    pending: bytearray = field(default_factory=bytearray)

    def receive(self) -> bytes | None:
        """b"" at the end; None when there is nothing now."""
        try:
            return self.socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            return b""

    def send_pending(self) -> bool:
        """Whether the connection still takes bytes."""
        try:
            while self.pending:
                del self.pending[: self.socket.send(self.pending)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            return False
        return True

    @property
    def has_decrypted(self) -> bool:
        """Bytes that TLS has taken from the socket already: polling the socket does not show them."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0


class Relay:
    """One session. `port`: where FFmpeg finds it on 127.0.0.1."""

    def __init__(self, server: WatchedSocket) -> None:
        self.report = RelayReport()
        self._peer: Address = server.peer
        self._server = _Side(server.socket)
        self._parser = RtspParser()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.port: int = self._listener.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="RTSP relay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """End the session soon; FFmpeg sees its connection closed. From any thread."""
        self._closing = True

    def close(self) -> None:
        """End the session now, and wait until its sockets are closed."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)
        else:
            self._listener.close()
            self._server.socket.close()

    def _run(self) -> None:
        client: _Side | None = None
        try:
            client = self._accepted()
            if client is not None:
                self._pass_on(client)
        except (RtspError, MulticastError) as error:
            self.report.fault = SourceError(
                f"the server does not speak RTSP as it should: {error}"
                if isinstance(error, RtspError)
                else f"{error}: that cannot be received; submit a source that is sent to one receiver"
            )
        finally:
            for opened in (self._listener, self._server.socket, client.socket if client else None):
                if opened is not None:
                    opened.close()

    def _accepted(self) -> _Side | None:
        """FFmpeg's connection, the only one that is let in."""
        self._listener.settimeout(_STEP_SECONDS)
        deadline = time.monotonic() + _ACCEPT_SECONDS
        while not self._closing and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._listener.close()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Side(connection)
        return None

    def _pass_on(self, client: _Side) -> None:
        """Until one side ends, or the session is to end. Raises RtspError, MulticastError."""
        while not self._closing and self.report.redirect is None:
            if not self._server.send_pending():
                self.report.server_closed = True
                return
            if not client.send_pending():
                return
            self._wait(client)
            if (data := self._from(client, to=self._server)) == b"":
                return
            if data:
                self._server.pending += data
            if (data := self._from(self._server, to=client)) == b"":
                self.report.server_closed = True
                client.send_pending()
                return
            if data:
                self.report.heard_at = time.monotonic()
                client.pending += self._read(self._parser.feed(data))
        client.send_pending()

    def _from(self, side: _Side, *, to: _Side) -> bytes | None:
        """What comes from `side`, unless too much waits for the other one."""
        return side.receive() if len(to.pending) < _MOST_PENDING else None

    def _wait(self, client: _Side) -> None:
        """Until one of them has bytes for us or takes bytes again, but not for long."""
        poll = select.poll()
        ready = False
        for side, other in ((client, self._server), (self._server, client)):
            events = select.POLLOUT if side.pending else 0
            if len(other.pending) < _MOST_PENDING:
                events |= select.POLLIN
                ready = ready or side.has_decrypted
            poll.register(side.socket, events)
        poll.poll(0 if ready else _STEP_SECONDS * 1000)

    def _read(self, items: list[Item]) -> bytes:
        passed = bytearray()
        for item in items:
            if isinstance(item, Message):
                if not self._goes_on(item):
                    return bytes(passed)
                passed += self._pinned(item).encode()
            else:
                self.report.goodbye = self.report.goodbye or item.says_goodbye
                passed += item.data
        return bytes(passed)

    def _goes_on(self, message: Message) -> bool:
        """Whether FFmpeg may see `message`; takes note of it."""
        status = message.status
        if message.method == "REDIRECT" or (status is not None and 300 <= status < 400):
            self.report.redirect = message.header("Location") or ""
            return False
        if status is not None:
            self.report.refusal = (status, message.reason) if status >= 400 else None
        return True

    def _pinned(self, message: Message) -> Message:
        """Of an answer to SETUP: with the checked address as the only one. Raises MulticastError."""
        transport = message.header("Transport")
        if transport is None:
            return message
        return message.with_header("Transport", pinned(transport, self._peer))
