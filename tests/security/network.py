"""A network of its own for a test: public, private and metadata addresses on one loopback, real HTTP servers on each,
and a real DNS server whose answers may change. Needs Linux namespaces, no privileges; touches nothing of this machine.

Run by `fetch_all` as a child process: scenarios as JSON on standard input, outcomes as JSON on standard output.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.fetch import Fetcher, FetchError, FetchLimits
from monolith.webhooks.payload import Message
from monolith.webhooks.secrets import Target
from monolith.webhooks.sender import Sender
from monolith.webhooks.signature import new_secret

PUBLIC: Final = "8.8.8.8"
OTHER_PUBLIC: Final = "8.8.4.4"
PUBLIC_6: Final = "2606:4700::1"
PRIVATE: Final = "10.0.0.5"
OTHER_PRIVATE: Final = "10.0.1.5"
PRIVATE_6: Final = "fd00::5"
METADATA: Final = "169.254.169.254"
LOOPBACK: Final = "127.0.0.1"
SERVED: Final = (
    PUBLIC, OTHER_PUBLIC, PUBLIC_6, PRIVATE, OTHER_PRIVATE, PRIVATE_6, METADATA, LOOPBACK, "::1",
)  # fmt: skip
_A: Final = 1
_CNAME: Final = 5
_AAAA: Final = 28
_LAUNCH: Final = """
set -e
ip link set lo up
for address in {addresses}; do ip addr add "$address" dev lo 2>/dev/null || true; done
mount --bind "{folder}/resolv.conf" /etc/resolv.conf
mount --bind "{folder}/nsswitch.conf" /etc/nsswitch.conf
mount --bind "{folder}/hosts" /etc/hosts
exec "{python}" -m tests.security.network
"""


class Scenario(msgspec.Struct, kw_only=True):
    """A fetch. `names`: host name → its answers, one after another, each a list of addresses, or `=other.name` (CNAME).
    `redirect`: where the public server sends requests for `/r`; `private`: the program serves on loopback alone;
    `sends`: it is no fetch, but so many deliveries of a webhook, of which the last one tells the outcome."""

    url: str
    names: dict[str, list[list[str]]] = {}
    redirect: str = ""
    private: bool = False
    networks: list[str] = []
    sends: int = 0


class Outcome(msgspec.Struct, kw_only=True):
    """`hits`: requests that arrived, by the address of the server; `queries`: A records asked for."""

    body: str | None
    error: str | None
    hits: dict[str, int]
    queries: int


def available() -> bool:
    """Whether this machine lets a user make such a network."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    tried = subprocess.run(
        ["unshare", "-rnm", "ip", "link", "set", "lo", "up"], capture_output=True, check=False
    )
    return tried.returncode == 0


def fetch_all(scenarios: Sequence[Scenario]) -> list[Outcome]:
    """What comes of each scenario, by the program's own fetcher."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
        (Path(folder) / "nsswitch.conf").write_text("hosts: files dns\n")
        (Path(folder) / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        addresses = " ".join(f"{a}/{ip_address(a).max_prefixlen}" for a in SERVED)
        script = _LAUNCH.format(addresses=addresses, folder=folder, python=sys.executable)
        done = subprocess.run(
            ["unshare", "-rnm", "sh", "-c", script],
            input=msgspec.json.encode(list(scenarios)),
            capture_output=True,
            check=False,
            timeout=100,
            cwd=Path(__file__).parents[2],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "HTTP_PROXY": f"http://{PRIVATE}",
                "http_proxy": f"http://{PRIVATE}",
            },
        )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=list[Outcome])


class _Dns(asyncio.DatagramProtocol):
    """Answers A and AAAA questions from `names`; the last answer of a name stays."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.asked: Counter[tuple[str, int]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
            at += data[at] + 1
        (kind,) = struct.unpack_from("!H", data, at + 1)
        records = self._records(".".join(labels), kind)
        flags = 0x8580 if records is not None else 0x8583  # NXDOMAIN
        head = data[:2] + struct.pack("!5H", flags, 1, len(records or ()), 0, 0)
        self._transport.sendto(head + data[12 : at + 5] + b"".join(records or ()), addr)

    def _records(self, name: str, kind: int) -> list[bytes] | None:
        steps = self.names.get(name)
        if steps is None:
            return None
        step = steps[min(self.asked[name, kind], len(steps) - 1)]
        self.asked[name, kind] += 1
        if step[0].startswith("="):
            target = step[0][1:]
            return [
                _record(b"\xc0\x0c", _CNAME, _name(target)),
                *(self._addresses(_name(target), self.names[target][0], kind)),
            ]
        return self._addresses(b"\xc0\x0c", step, kind)

    @staticmethod
    def _addresses(owner: bytes, addresses: list[str], kind: int) -> list[bytes]:
        wanted = {_A: IPv4Address, _AAAA: IPv6Address}.get(kind)
        parsed = [ip_address(address) for address in addresses]
        return [
            _record(owner, kind, a.packed) for a in parsed if wanted is not None and isinstance(a, wanted)
        ]


def _name(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


class _Web:
    """HTTP servers on port 80 of all addresses."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.redirect = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            address = str(writer.get_extra_info("sockname")[0])
            self.hits[address] += 1
            if head.split()[1] == b"/r" and self.redirect and address in (PUBLIC, PUBLIC_6):
                writer.write(f"HTTP/1.1 302 Found\r\nLocation: {self.redirect}\r\n\r\n".encode())
            else:
                body = f"from {address}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _run(scenarios: list[Scenario]) -> list[Outcome]:
    dns, web = _Dns(), _Web()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: dns, local_addr=("127.0.0.1", 53))
    for address in SERVED:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        await asyncio.start_server(web.serve, address, 80, family=family)
    return [await _outcome(scenario, dns, web) for scenario in scenarios]


async def _outcome(scenario: Scenario, dns: _Dns, web: _Web) -> Outcome:
    dns.names, web.redirect = scenario.names, scenario.redirect
    dns.asked.clear()
    web.hits.clear()
    networks = tuple(ip_network(network) for network in scenario.networks)
    policy = AddressPolicy(scenario.private, networks)
    body, error = await (_sent(scenario, policy) if scenario.sends else _fetched(scenario, policy))
    queries = sum(count for (_, kind), count in dns.asked.items() if kind == _A)
    return Outcome(body=body, error=error, hits=dict(web.hits), queries=queries)


async def _sent(scenario: Scenario, policy: AddressPolicy) -> tuple[str | None, str | None]:
    answer = None
    async with Sender(policy, timeout=4) as sender:
        for _ in range(scenario.sends):
            answer = await sender.send(Target(scenario.url, new_secret()), Message("id", b"{}"))
    assert answer is not None
    return ("delivered" if answer.delivered else None), answer.failure


async def _fetched(scenario: Scenario, policy: AddressPolicy) -> tuple[str | None, str | None]:
    limits = FetchLimits(
        max_bytes=1000,
        connect_timeout=30,
        read_timeout=30,
        total_timeout=60,
        min_rate=0,
        attempts=2,
        first_pause=0.01,
    )
    fetcher = Fetcher(policy, limits)
    body = error = None
    with TemporaryDirectory() as folder:
        target = Path(folder) / "source"
        try:
            await fetcher.fetch(scenario.url, target)
            body = target.read_text()
        except FetchError as refused:
            error = refused.reason
    return body, error


if __name__ == "__main__":
    found = asyncio.run(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=list[Scenario])))
    sys.stdout.buffer.write(msgspec.json.encode(found))
