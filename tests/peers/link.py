"""A narrow network between a viewer and the program: a relay of UDP that delays, and loses what it cannot carry."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Final

Address = tuple[str, int]

_CANDIDATE: Final = re.compile(
    r"^a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host.*$", re.MULTILINE | re.IGNORECASE
)

_BUFFER: Final = 4 << 20
"""Bytes: what is lost is to be lost by its rules."""


class Link:
    """Use as `async with`; pass offers and answers through it, so that viewer and program meet nowhere else.

    `rate`: bits/s towards the viewer, None: any. `loss`: of its packets, 0 to 1, by chance that is the same each time.
    `longest`: seconds that a packet may wait; what would wait longer is lost.
    """

    def __init__(self, *, rate: float | None = None, loss: float = 0.0, longest: float = 0.2) -> None:
        self.rate = rate
        self.loss = loss
        self.longest = longest
        self.carried = self.lost = 0
        self._chance = random.Random(7)
        self._free_at = 0.0
        self._front: asyncio.DatagramTransport | None = None
        self._behind: asyncio.DatagramTransport | None = None
        self._viewer: Address | None = None
        self._program: Address | None = None

    def offer(self, offer: str) -> str:
        """Without the viewer's own addresses."""
        return _CANDIDATE.sub("", offer).replace("\n\n", "\n")

    def answer(self, answer: str) -> str:
        """With the relay's address for the program's."""
        assert self._front is not None
        found = _CANDIDATE.search(answer)
        assert found is not None, answer
        self._program = (found[1], int(found[2]))
        host, port = self._front.get_extra_info("sockname")
        ours = found[0].replace(f" {found[1]} {found[2]} ", f" {host} {port} ")
        return _CANDIDATE.sub(lambda one: ours if one[0] == found[0] else "", answer).replace("\n\n", "\n")

    def from_viewer(self, data: bytes, sender: Address) -> None:
        self._viewer = sender
        if self._behind is not None and self._program is not None:
            self._behind.sendto(data, self._program)

    def from_program(self, data: bytes, sender: Address) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        waits = max(0.0, self._free_at - now)
        if self._chance.random() < self.loss or (self.rate and waits > self.longest):
            self.lost += 1
            return
        self.carried += 1
        if self.rate:
            self._free_at = now + waits + len(data) * 8 / self.rate
            loop.call_at(self._free_at, self._deliver, data)
        else:
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        if self._front is not None and self._viewer is not None and not self._front.is_closing():
            self._front.sendto(data, self._viewer)

    async def __aenter__(self) -> Link:
        loop = asyncio.get_running_loop()
        local = ("127.0.0.1", 0)
        self._front, _ = await loop.create_datagram_endpoint(lambda: _End(self.from_viewer), local)
        self._behind, _ = await loop.create_datagram_endpoint(lambda: _End(self.from_program), local)
        for transport in (self._front, self._behind):
            connected = transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for transport in (self._front, self._behind):
            if transport is not None:
                transport.close()


class _End(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)
