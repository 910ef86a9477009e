"""Where WebRTC peers may reach this machine: interfaces, ports, public addresses, STUN and TURN servers.

aiortc gathers on every interface but loopback and on any port; a `RuledConnection` takes the place of its connection
for that, before it gathers. It also hears when the peer last showed a sign of life.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeAlias

import ifaddr
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol
from aiortc.rtcicetransport import RTCIceGatherer

from monolith.live.webrtc.ice_servers import IceServer, IceServers
from monolith.live.webrtc.intake import Intake

IpAddress: TypeAlias = IPv4Address | IPv6Address

_RECEIVE_BUFFER: Final = 1 << 20
_WAITING_DATAGRAMS: Final = 4096
"""So many may wait for the loop; those that come then are lost, as in a full socket."""
_HIGHEST: Final = 65535
REMOTE_CANDIDATES: Final = 32
"""Of one peer, in its offer and trickled: each is sent to, whoever is there."""


@dataclass(frozen=True, kw_only=True)
class IceOptions:
    """`servers`: STUN and TURN URIs (RFC 7064, 7065). `interfaces`: names or addresses; none: all, and loopback where
    there is no other. `ports`: first and last; None: any. `public`: addresses that reach this machine from outside."""

    servers: tuple[str, ...] = ()
    username: str = ""
    credential: str = ""
    interfaces: tuple[str, ...] = ()
    ports: tuple[int, int] | None = None
    public: tuple[IpAddress, ...] = ()
    asked: IceServers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        servers = [IceServer(uri, self.username, self.credential) for uri in self.servers]
        object.__setattr__(self, "asked", IceServers(servers))

    def links(self) -> list[str]:
        """Values of `Link` headers, as WHIP and WHEP tell their clients the servers (RFC 9725, section 4.6)."""
        secret = f'; username="{_quoted(self.username)}"; credential="{_quoted(self.credential)}"'
        with_secret = f'{secret}; credential-type="password"' if self.username else ""
        return [
            f'<{uri}>; rel="ice-server"' + (with_secret if uri.startswith("turn") else "")
            for uri in self.servers
        ]


class NoAddressError(Exception):
    """There is no address of this machine, or no port, for one more peer; the text is for users."""


class RuledConnection(Connection):
    """An ICE agent that gathers as `options` say. `heard_at`: when the peer was last heard, in seconds of the monotonic
    clock. `checks_consent`: whether a peer must answer that it wants our packets, first (RFC 8445) and again and again
    (RFC 7675); to be set before it has the answer. Else the way that it nominates is taken, as by an ICE-lite agent.
    `intake`: how much may come, None: anything. What comes beyond is lost."""

    options: IceOptions
    heard_at: float
    checks_consent: bool = True
    intake: Intake | None = None
    _from: tuple[str, int] | None = None

    @classmethod
    def rule(cls, gatherer: RTCIceGatherer, options: IceOptions) -> RuledConnection:
        """The connection of `gatherer`, which has not gathered yet, from now on ruled by `options`."""
        connection: Any = gatherer._connection
        connection.__class__ = cls
        connection.options, connection.heard_at = options, time.monotonic()
        assert isinstance(connection, cls)
        return connection

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 0
    ) -> list[Candidate]:
        """Candidates of our addresses, not of `addresses`, and of the servers; those of the public address first.

        Raises NoAddressError.
        """
        sockets = [await self._bind(address) for address in local_addresses(self.options.interfaces)]
        protocols = [protocol for protocol in sockets if protocol is not None]
        hosts = [self._host_candidate(component, protocol) for protocol in protocols]
        self._protocols += protocols
        if not protocols:
            raise NoAddressError(self._why_no_address())
        given = await self.options.asked.ask(component, protocols, lambda: _Socket(self))
        self._protocols += [protocol for _, protocol in given if protocol is not None]
        return [*self._public(hosts), *hosts, *(candidate for candidate, _ in given)]

    def data_received(self, data: bytes, component: int) -> None:
        """For the sockets. Anyone may send to them: an empty datagram would end aiortc's reading."""
        if not data or self._queue.qsize() >= _WAITING_DATAGRAMS:
            return
        now = time.monotonic()
        if self._is_of_peer(component):
            self.heard_at = now
        if self.intake is None or self.intake.takes(len(data), now):
            super().data_received(data, component)

    def datagram_comes(self, addr: tuple[str, int]) -> None:
        """For the sockets: what is received next is from there."""
        self._from = addr

    def _is_of_peer(self, component: int) -> bool:
        """Whether what was received last came from an address that is checked, or was."""
        pair = self._nominated.get(component)
        if pair is not None:
            return bool(pair.remote_addr == self._from)
        return any(pair.remote_addr == self._from for pair in self._check_list)

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        if remote_candidate is None or len(self._remote_candidates) < REMOTE_CANDIDATES:
            await super().add_remote_candidate(remote_candidate)

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """Loopback is a way to a peer that uses it with us, not one to other programs of this machine."""
        own = any(ip_address(one.host).is_loopback for one in self._local_candidates)
        if own or not ip_address(remote_candidate.host).is_loopback:
            super()._pair_remote_candidate(remote_candidate)

    def check_incoming(self, message: Any, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """`message`: a request that knows our password."""
        self.heard_at = time.monotonic()
        super().check_incoming(message, addr, protocol)
        if self.checks_consent or self.ice_controlling or "USE-CANDIDATE" not in message.attributes:
            return
        for pair in self._check_list:
            if pair.protocol is protocol and pair.remote_addr == addr and not pair.nominated:
                if pair.task is not None:
                    pair.task.cancel()
                self.check_state(pair, CandidatePair.State.SUCCEEDED)
                pair.nominated = True
                self.check_complete(pair)

    async def query_consent(self) -> None:
        if self.checks_consent:
            await super().query_consent()

    async def _bind(self, address: str) -> StunProtocol | None:
        """None where the address cannot be used now, or has no port left."""
        loop = asyncio.get_running_loop()
        for port in ports_to_try(self.options.ports):
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: _Socket(self), local_addr=(address, port)
                )
            except OSError:
                continue
            connected = transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            return protocol
        return None

    def _host_candidate(self, component: int, protocol: StunProtocol) -> Candidate:
        host, port = protocol.transport.get_extra_info("sockname")[:2]
        protocol.local_candidate = _candidate(component, host, port, _HIGHEST - 1)
        return protocol.local_candidate

    def _public(self, hosts: Sequence[Candidate]) -> list[Candidate]:
        """Told to the peer only: what it sends there arrives at the sockets of `hosts`."""
        return [
            _candidate(host.component, str(public), host.port, _HIGHEST)
            for public in self.options.public
            for host in hosts
            if ip_address(host.host).version == public.version and not ip_address(host.host).is_loopback
        ]

    def _why_no_address(self) -> str:
        if not local_addresses(self.options.interfaces):
            named = ", ".join(self.options.interfaces)
            return f"no interface of this machine is one of VIDEO_ANALYSIS_ICE_INTERFACES ({named})"
        if self.options.ports is None:
            return "no UDP port can be had now"
        first, last = self.options.ports
        return f"all UDP ports from {first} to {last} are taken (VIDEO_ANALYSIS_ICE_PORTS); try again later"


class _Socket(StunProtocol):
    """Says where datagrams come from."""

    receiver: RuledConnection

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        self.receiver.datagram_comes((addr[0], addr[1]))
        super().datagram_received(data, addr)


def local_addresses(interfaces: Sequence[str]) -> list[str]:
    """Addresses to gather on: of `interfaces` (names or addresses), else of all but loopback, else 127.0.0.1."""
    found = list(_addresses())
    if interfaces:
        return [address for name, address in found if name in interfaces or address in interfaces]
    beyond = [address for _, address in found if not ip_address(address).is_loopback]
    return beyond or ["127.0.0.1"]


def ports_to_try(ports: tuple[int, int] | None) -> list[int]:
    """In an order by chance, so that peers do not meet at the first one."""
    if ports is None:
        return [0]
    first, last = ports
    return random.sample(range(first, last + 1), last - first + 1)


def _addresses() -> Iterator[tuple[str, str]]:
    """Interface and address, without those that are good on one link only."""
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if not ip_address(address).is_link_local:
                yield adapter.name, address


def _candidate(component: int, host: str, port: int, preference: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host", preference),
        host=host,
        port=port,
        type="host",
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
