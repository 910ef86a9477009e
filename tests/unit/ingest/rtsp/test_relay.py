from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from monolith.ingest.checked_network import WatchedSocket
from monolith.ingest.rtsp.relay import Relay

_TIMEOUT = 10.0


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


def test_a_client_that_leaves_is_no_end_of_the_server(server: tuple[WatchedSocket, socket.socket]) -> None:
    ours, theirs = server
    relay = Relay(ours)
    client_of(relay).close()
    theirs.settimeout(_TIMEOUT)
    assert theirs.recv(1) == b""
    relay.close()
    assert not relay.report.server_closed
