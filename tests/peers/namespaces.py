"""Networks of a test's own: network namespaces of Linux, and cables between them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_NEW_NETWORK = 0x40000000
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """`name`: for `ip netns`. Its loopback is up."""

    name: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread opens meanwhile, and processes that it starts, are in here; those it has stay where
        they are."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.name}").open() as here:
            _enter(here.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def ip(self, command: str) -> None:
        _run(["ip", "-n", self.name, *command.split()])

    def route(self) -> None:
        """Pass on packets of others; with a table `test` for rules (`nft`)."""
        _run(["ip", "netns", "exec", self.name, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        self.nft("add table ip test")

    def nft(self, command: str) -> None:
        nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
        if nft is None:
            pytest.skip("nft is missing; install with: sudo apt-get install nftables")
        _run(["ip", "netns", "exec", self.name, nft, command])

    def cable(self, address: str, other: Namespace, other_address: str) -> None:
        """To `other`; addresses with the length of their network."""
        number = next(_numbers)
        ours, theirs = f"a{number}", f"b{number}"
        self.ip(f"link add {ours} type veth peer name {theirs} netns {other.name}")
        for namespace, name, at in ((self, ours, address), (other, theirs, other_address)):
            namespace.ip(f"addr add {at} dev {name}")
            namespace.ip(f"link set {name} up")


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many; the test is skipped where there can be none."""
    made: list[Namespace] = []
    try:
        for _ in range(count):
            one = Namespace(f"test{os.getpid()}-{next(_numbers)}")
            _make(one)
            made.append(one)
        yield made
    finally:
        for one in made:
            subprocess.run(["ip", "netns", "del", one.name], check=False, capture_output=True, timeout=60)


def _make(one: Namespace) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and `ip`: sudo apt-get install iproute2")
    done = subprocess.run(["ip", "netns", "add", one.name], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no network namespaces are allowed here: {done.stderr.strip()}")
    one.ip("link set lo up")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")
