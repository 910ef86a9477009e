from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from monolith.ingest.checked_network import WatchedSocket
from monolith.ingest.rtsp.relay import Relay

_TIMEOUT = 60.0


@pytest.fixture
def server() -> Iterator[tuple[WatchedSocket, socket.socket]]:
    """A connection to a server, and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        ours = WatchedSocket.connected(ip_address("127.0.0.1"), port, _TIMEOUT, lambda: None)
        theirs, _ = listener.accept()
        with theirs:
            yield ours, theirs
        ours.close()


def client_of(relay: Relay) -> socket.socket:
    relay.start()
    return socket.create_connection(("127.0.0.1", relay.port), timeout=_TIMEOUT)


def test_a_server_that_takes_no_more_bytes_has_closed(server: tuple[WatchedSocket, socket.socket]) -> None:
    ours, _ = server
    relay = Relay(ours)
    with client_of(relay) as client:
        ours.socket.shutdown(socket.SHUT_WR)
        client.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        assert client.recv(1) == b""
    relay.close()
    assert relay.report.server_closed


@pytest.mark.parametrize(
    ("message", "redirect"),
    [
        (b"REDIRECT rtsp://a/b RTSP/1.0\r\nCSeq: 9\r\nLocation: rtsp://c/d\r\n\r\n", "rtsp://c/d"),
        (b"REDIRECT rtsp://a/b RTSP/1.0\r\nCSeq: 9\r\n\r\n", ""),
        (b"RTSP/1.0 302 Found\r\nCSeq: 9\r\nLocation: rtsp://c/d\r\n\r\n", "rtsp://c/d"),
    ],
)
def test_a_redirect_ends_the_session_and_is_not_passed_on(
    server: tuple[WatchedSocket, socket.socket], message: bytes, redirect: str
) -> None:
    ours, theirs = server
    relay = Relay(ours)
    frame = b"$\x00\x00\x01x"
    with client_of(relay) as client:
        theirs.sendall(frame + message + frame)
        assert client.makefile("rb").read() == frame
    relay.close()
    assert (relay.report.redirect, relay.report.server_closed) == (redirect, False)


def test_a_client_that_leaves_is_no_end_of_the_server(server: tuple[WatchedSocket, socket.socket]) -> None:
    ours, theirs = server
    relay = Relay(ours)
    client_of(relay).close()
    theirs.settimeout(_TIMEOUT)
    assert theirs.recv(1) == b""
    relay.close()
    assert not relay.report.server_closed
