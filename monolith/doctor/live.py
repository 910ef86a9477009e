"""What publishers and viewers need of the network: the RTMP port, UDP ports, interfaces, STUN and TURN servers."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from monolith.datadir import DataDirError, held_by
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.doctor.network import owner_of
from monolith.setting_values import is_loopback
from monolith.settings import Settings
from monolith.settings_loading import variable

_FEW_PORTS: Final = 16
_PORTS_LOOKED_AT: Final = 64


def rtmp_port(settings: Settings) -> Iterator[Finding]:
    """Whether RTMP can be taken there, and whether its publishers can come."""
    if not settings.rtmp:
        yield ok("RTMP", f"off ({variable('rtmp')})")
        return
    host, port = settings.rtmp_host or settings.host, settings.rtmp_port
    where = f"{host} port {port}"
    if port == 0:
        yield ok("RTMP", f"any free port of {host} will be taken: its URL changes with every start")
    elif _a_server_runs(settings):
        yield ok("RTMP", f"{where} is the business of the server that runs")
    else:
        yield _listened(host, port, where)
    if is_loopback(host) and not settings.serves_this_machine_only and not settings.rtmp_public_url:
        yield warning(
            "RTMP",
            f"others reach HTTP, but RTMP is taken on {host} alone",
            f"set {variable('rtmp_host')} to an address that publishers reach, or {variable('rtmp')}=false",
        )


def _listened(host: str, port: int, where: str) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = f"taken by {owner_of(port)}" if taken else f"not to be had: {error.strerror or error}"
        return problem(
            "RTMP",
            f"{where} is {why}",
            f"end what has it, choose another one ({variable('rtmp_port')}), or set {variable('rtmp')}=false",
        )
    return ok("RTMP", f"{where} is free")


def webrtc_addresses(settings: Settings) -> Iterator[Finding]:
    """Where WebRTC peers are told that they reach this machine, and whether ports are left."""
    from monolith.live.webrtc.ice import local_addresses  # late: aiortc takes time to import

    addresses = local_addresses(settings.ice_interfaces)
    if not addresses:
        yield problem(
            "WebRTC",
            f"no interface of this machine is one of {', '.join(settings.ice_interfaces)}",
            f"name interfaces or addresses of this machine in {variable('ice_interfaces')}, or none for all",
        )
        return
    public = [str(address) for address in settings.ice_public_address]
    yield ok("WebRTC", f"peers are told {', '.join([*public, *addresses])}")
    if all(is_loopback(address) for address in addresses) and not settings.serves_this_machine_only:
        yield warning(
            "WebRTC", "this machine has loopback alone: only peers on it connect", "connect it to a network"
        )
    if settings.ice_ports:
        yield _ports(settings.ice_ports, addresses)
    elif public:
        yield warning(
            "WebRTC",
            f"{variable('ice_public_address')} is set, and any UDP port may be used",
            f"name those that are passed on: {variable('ice_ports')}=50000-50100",
        )


def _ports(ports: str, addresses: list[str]) -> Finding:
    first, last = map(int, ports.split("-"))
    looked_at = range(first, min(last, first + _PORTS_LOOKED_AT - 1) + 1)
    free = min(_free(address, looked_at) for address in addresses)
    text = f"of UDP ports {looked_at.start} to {looked_at.stop - 1}, {free} are free"
    if free == 0 or last - first + 1 < _FEW_PORTS:
        return warning(
            "WebRTC ports",
            text,
            f"name more ports in {variable('ice_ports')}: each publisher and each viewer takes one an address",
        )
    return ok("WebRTC ports", text)


def _free(address: str, ports: range) -> int:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    count = 0
    for port in ports:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            try:
                one.bind((address, port))
            except OSError:
                continue
            count += 1
    return count


def ice_servers(settings: Settings) -> Iterator[Finding]:
    """What the STUN and TURN servers say, asked as the program does."""
    if not settings.ice_servers:
        yield ok("STUN and TURN", "none are asked")
        return
    from monolith.live.webrtc.ice_servers import IceServer, try_server

    username, credential = settings.ice_username, settings.ice_credential.get_secret_value()
    for uri in settings.ice_servers:
        try:
            address = asyncio.run(try_server(IceServer(uri, username, credential)))
        except Exception as error:
            why = str(error) or f"no answer ({type(error).__name__})"
            yield problem(
                "STUN and TURN",
                f"{uri} gives no address: {why}",
                f"see {variable('ice_servers')}, {variable('ice_username')} and {variable('ice_credential')}",
            )
        else:
            yield ok("STUN and TURN", f"{uri} gives {address}")


def _a_server_runs(settings: Settings) -> bool:
    try:
        return held_by(settings.data_dir.absolute()) is not None
    except DataDirError:
        return False
