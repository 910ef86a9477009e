"""Which network addresses a video may be fetched from.

Rules, in order, for the address, or for the one carried inside it (IPv4-mapped, 6to4, NAT64, Teredo):

1. in a named network: allowed;
2. link-local, metadata services, multicast, unspecified, reserved: never;
3. public: allowed;
4. all others (private, loopback, shared): only while the program serves on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

import httpcore
import msgspec

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_METADATA: Final = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Metadata services of clouds that are not link-local."""
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "100::/64",
         "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)  # fmt: skip
"""Special ranges (IANA registries) that `is_global` of older Pythons takes for public."""


class ForbiddenAddressError(Exception):
    """The policy forbids an address; the text says which and what would allow it."""


class AddressPolicy(msgspec.Struct, frozen=True):
    """`loopback_only`: the program serves on loopback alone. `networks`: named by the operator, always allowed.
    `forbids`: what is not done at other addresses, for the error text."""

    loopback_only: bool
    networks: Sequence[Network] = ()
    forbids: str = "videos may not be fetched from there"

    def check(self, address: Address, host: str) -> None:
        """`host`: the name that led here, for the error text. Raises ForbiddenAddressError."""
        for part in unwrapped(address):
            reason = self._refusal(part)
            if reason:
                raise ForbiddenAddressError(_refused(host, address, part, reason, self.forbids))

    def _refusal(self, address: Address) -> str | None:
        if any(address in network for network in self.networks):
            return None
        if reason := _never(address):
            return reason
        if self.loopback_only or _is_public(address):
            return None
        return "is not a public address"


def unwrapped(address: Address) -> tuple[Address, ...]:
    """The addresses that decide: the one carried inside, or the address itself. Teredo carries two."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.teredo is not None:
        return address.teredo
    if address in _SIX_TO_FOUR:
        return (IPv4Address((int(address) >> 80) & 0xFFFFFFFF),)
    compatible = address in _COMPATIBLE and int(address) > 0xFFFF
    if compatible or address in _NAT64 or address in _TRANSLATED:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (IPv6Address(int(address)),)  # without a scope, which would keep it out of networks


def _never(address: Address) -> str | None:
    if address.is_link_local or address in _METADATA:
        return "is a link-local or metadata address"
    if address.is_multicast or address.is_unspecified:
        return "is no address of a machine"
    if address.is_reserved and not address.is_loopback:
        return "is a reserved address"
    return None


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _refused(host: str, address: Address, part: Address, reason: str, forbids: str) -> str:
    shown = f"{address} (inside it {part})" if str(part) != str(address) else str(address)
    named = f"{host} is at {shown}, which" if host != str(address) else shown
    return (
        f"{named} {reason}; {forbids} "
        f"(VIDEO_ANALYSIS_ALLOWED_NETWORKS names networks that are allowed besides public ones)"
    )


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to exactly the addresses that it has checked: a name that resolves anew to another address gains
    nothing. TLS goes on by host name, above this."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises ForbiddenAddressError, socket.gaierror, httpcore.ConnectError, httpcore.ConnectTimeout."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name {host} was not found in time") from error
        for address in addresses:
            self._policy.check(address, host)
        return await self._first(addresses, port, timeout, local_address, socket_options)

    async def _first(
        self,
        addresses: Sequence[Address],
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def resolve(host: str, port: int) -> tuple[Address, ...]:
    """The addresses of `host`, without repeats, in the resolver's order. Raises socket.gaierror."""
    with contextlib.suppress(ValueError):
        return (ip_address(host),)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty, too long, or no valid IDNA
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a host name") from error
    return tuple(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
