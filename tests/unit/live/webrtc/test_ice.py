"""On this machine's real interfaces and ports."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
from aioice import stun
from aioice.candidate import Candidate
from aioice.ice import Connection
from aiortc.rtcicetransport import RTCIceGatherer

from monolith.live.webrtc import ice
from monolith.live.webrtc.ice import (
    REMOTE_CANDIDATES,
    IceOptions,
    NoAddressError,
    RuledConnection,
    local_addresses,
    ports_to_try,
)


async def gathered(options: IceOptions) -> tuple[RuledConnection, list[tuple[str, int]]]:
    gatherer = RTCIceGatherer(iceServers=[])
    connection = RuledConnection.rule(gatherer, options)
    await gatherer.gather()
    return connection, [(one.host, one.port) for one in connection.local_candidates]


async def test_loopback_alone_is_gathered_when_named() -> None:
    connection, found = await gathered(IceOptions(interfaces=("127.0.0.1",)))
    assert [host for host, _ in found] == ["127.0.0.1"]
    await connection.close()


async def test_an_interface_may_be_named() -> None:
    connection, found = await gathered(IceOptions(interfaces=("lo",)))
    assert "127.0.0.1" in [host for host, _ in found]
    assert all(ip_address(host).is_loopback for host, _ in found)
    await connection.close()


def test_loopback_is_used_where_nothing_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "_addresses", lambda: iter([("lo", "127.0.0.1"), ("lo", "::1")]))
    assert local_addresses(()) == ["127.0.0.1"]
    monkeypatch.setattr(ice, "_addresses", lambda: iter([("lo", "127.0.0.1"), ("eth0", "192.0.2.7")]))
    assert local_addresses(()) == ["192.0.2.7"]
    assert local_addresses(("eth1",)) == []


async def test_ports_are_of_the_range_and_the_next_free_one_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        first = taken.getsockname()[1]
        last = min(first + 9, 65535)
        options = IceOptions(interfaces=("127.0.0.1",), ports=(first, last))
        both = [await gathered(options) for _ in range(2)]
        ports = [port for _, found in both for _, port in found]
        assert len(set(ports)) == 2
        assert all(first < port <= last for port in ports)
        only = IceOptions(interfaces=("127.0.0.1",), ports=(first, first))
        with pytest.raises(NoAddressError, match=f"all UDP ports from {first} to {first} are taken"):
            await gathered(only)
    for connection, _ in both:
        await connection.close()


async def test_an_interface_that_is_not_there_is_named() -> None:
    with pytest.raises(NoAddressError, match=r"VIDEO_ANALYSIS_ICE_INTERFACES \(eth9, 192.0.2.1\)"):
        await gathered(IceOptions(interfaces=("eth9", "192.0.2.1")))


def test_any_port_is_asked_of_the_system() -> None:
    assert ports_to_try(None) == [0]
    assert sorted(ports_to_try((5, 8))) == [5, 6, 7, 8]


async def test_the_public_address_is_told_first_with_the_port_of_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = local_addresses(())[0]
    if ip_address(own).is_loopback:
        pytest.skip("this machine has loopback only: nothing is told of it")
    public = "203.0.113.7" if ip_address(own).version == 4 else "2001:db8::7"
    options = IceOptions(interfaces=(own,), public=(ip_address(public), ip_address("203.0.113.8")))
    connection, found = await gathered(options)
    assert found[0] == (public, found[-1][1])
    assert found[-1][0] == own
    await connection.close()


async def test_what_a_stranger_sends_ends_nothing() -> None:
    """An empty datagram would be an IndexError in aiortc's reading."""
    connection, found = await gathered(IceOptions(interfaces=("127.0.0.1",)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for data in (b"", b"x"):
            stranger.sendto(data, found[0])
    async with asyncio.timeout(60):
        assert await Connection.recv(_nominated(connection)) == b"x"
    await connection.close()


def _nominated(connection: RuledConnection) -> RuledConnection:
    connection._nominated[1] = None  # type: ignore[assignment]
    return connection


def test_servers_are_told_with_their_passwords() -> None:
    options = IceOptions(
        servers=("stun:stun.example.org:3478", "turn:turn.example.org:3478?transport=udp"),
        username="camera",
        credential='se"cret',
    )
    assert options.links() == [
        '<stun:stun.example.org:3478>; rel="ice-server"',
        '<turn:turn.example.org:3478?transport=udp>; rel="ice-server"; username="camera"; credential="se\\"cret";'
        ' credential-type="password"',
    ]


def test_without_servers_none_is_told() -> None:
    assert IceOptions().links() == []


def candidate(host: str, port: int) -> Candidate:
    return Candidate("1", 1, "udp", 2130706431, host, port, "host")


async def test_no_more_than_a_few_addresses_are_asked_in_all() -> None:
    connection, _ = await gathered(IceOptions(interfaces=("127.0.0.1",)))
    for number in range(3 * REMOTE_CANDIDATES):
        await connection.add_remote_candidate(candidate("192.0.2.7", 5000 + number))
    assert len(connection.remote_candidates) == REMOTE_CANDIDATES
    await connection.close()


async def test_loopback_is_asked_only_where_it_is_used() -> None:
    beyond = [address for address in local_addresses(()) if not ip_address(address).is_loopback]
    if not beyond:
        pytest.skip("this machine has loopback only")
    for interface, asked in (("127.0.0.1", 1), (beyond[0], 0)):
        connection, _ = await gathered(IceOptions(interfaces=(interface,)))
        await connection.add_remote_candidate(candidate("127.0.0.1", 1935))
        connection._pair_remote_candidate(connection.remote_candidates[0])
        assert len(connection._check_list) == asked
        await connection.close()


async def test_a_stranger_is_no_sign_of_life() -> None:
    connection, found = await gathered(IceOptions(interfaces=("127.0.0.1",)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        await connection.add_remote_candidate(candidate(*peer.getsockname()))
        connection._pair_remote_candidate(connection.remote_candidates[0])
        _nominated(connection)
        connection.heard_at = 0.0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"x", found[0])
            stranger.sendto(bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST)), found[0])
        assert await _received(connection) == b"x"
        assert connection.heard_at == 0.0
        peer.sendto(b"y", found[0])
        assert await _received(connection) == b"y"
        assert connection.heard_at > 0.0
    await connection.close()


async def _received(connection: RuledConnection) -> bytes:
    async with asyncio.timeout(60):
        return await Connection.recv(connection)
