"""STUN and TURN servers: asked for addresses by which peers reach this machine (RFC 8489, 8656).

A server that gives none is told in the log and left alone for a while, so that not every peer waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias

from aioice.candidate import Candidate
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate

from monolith.setting_values import IceServerAddress, ice_server_address

_ANSWER_SECONDS: Final = 3.0
_OTHERS_SECONDS: Final = 0.25
"""Longer than the first of our sockets the others are not waited for: some reach no server, ever."""
_LEFT_ALONE_SECONDS: Final = 30.0

Given: TypeAlias = "list[tuple[Candidate, StunProtocol | None]]"
"""Candidates; with a protocol of its own each that is relayed."""

logger = logging.getLogger(__name__)


class IceServer(NamedTuple):
    """`uri`: RFC 7064 or 7065. `username`, `credential`: for TURN."""

    uri: str
    username: str
    credential: str


class IceServers:
    """Those of the settings. `clock`: monotonic, in seconds."""

    def __init__(self, servers: Sequence[IceServer], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._clock = clock
        self._again: dict[str, float] = {}
        """URI → when it may be asked again."""

    async def ask(
        self, component: int, sockets: Sequence[StunProtocol], new_protocol: Callable[[], StunProtocol]
    ) -> Given:
        """All at once, within some seconds. `sockets`: ours, with their `local_candidate`; `new_protocol`: for what
        comes through a TURN server."""
        now = self._clock()
        asked = [
            self._asked(server.uri, _question(server, component, sockets, new_protocol))
            for server in self._servers
            if self._again.get(server.uri, now) <= now
        ]
        return [one for given in await asyncio.gather(*asked) for one in given]

    async def _asked(self, uri: str, question: Coroutine[Any, Any, Given]) -> Given:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await question
        except TimeoutError:
            self._leave_alone(uri, f"no answer within {_ANSWER_SECONDS:g} s")
        except Exception as error:
            self._leave_alone(uri, str(error) or type(error).__name__)
        return []

    def _leave_alone(self, uri: str, why: str) -> None:
        self._again[uri] = self._clock() + _LEFT_ALONE_SECONDS
        logger.warning(
            "%s gives no address (%s); it is left alone for %g s: is VIDEO_ANALYSIS_ICE_SERVERS right?",
            uri, why, _LEFT_ALONE_SECONDS,
        )  # fmt: skip


def _question(
    server: IceServer,
    component: int,
    sockets: Sequence[StunProtocol],
    new_protocol: Callable[[], StunProtocol],
) -> Coroutine[Any, Any, Given]:
    address = ice_server_address(server.uri)
    if address.scheme == "stun":
        return _reflexive(sockets, (address.host, address.port))
    return _relayed(server, address, component, new_protocol)


async def _relayed(
    server: IceServer,
    address: IceServerAddress,
    component: int,
    new_protocol: Callable[[], StunProtocol],
) -> Given:
    given = await relayed_candidate(
        component=component,
        hide_related_address=False,
        protocol_factory=new_protocol,
        turn_server=(address.host, address.port),
        turn_username=server.username or None,
        turn_password=server.credential or None,
        turn_ssl=address.scheme == "turns",
        turn_transport=address.transport,
    )
    return [given]


async def _reflexive(sockets: Sequence[StunProtocol], place: tuple[str, int]) -> Given:
    """How the server sees our sockets, where that is not how they are (RFC 8445, section 5.1.3); IPv4 alone."""
    tasks = [
        asyncio.create_task(server_reflexive_candidate(one, place))
        for one in sockets
        if ip_address(one.local_candidate.host).version == 4
    ]
    if not tasks:
        return []
    try:
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while others and all(task.exception() for task in done):
            done, others = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        if others:
            await asyncio.wait(others, timeout=_OTHERS_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
    answered = [task for task in tasks if task.done() and not task.cancelled()]
    found = [task.result()[0] for task in answered if task.exception() is None]
    if not found:
        raise answered[0].exception() or TimeoutError
    return [(one, None) for one in found if (one.host, one.port) != (one.related_address, one.related_port)]


async def try_server(server: IceServer) -> str:
    """Ask it once from any socket; the address that it gave. Raises what it did not."""
    loop = asyncio.get_running_loop()
    made: list[StunProtocol] = []

    def new_protocol() -> StunProtocol:
        made.append(StunProtocol(_Nobody()))  # type: ignore[arg-type]
        return made[-1]

    _, socket = await loop.create_datagram_endpoint(new_protocol, local_addr=("0.0.0.0", 0))  # noqa: S104
    socket.local_candidate = Candidate("", 1, "udp", 0, "0.0.0.0", 0, "host")  # noqa: S104
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            ((candidate, _),) = await _question(server, 1, [socket], new_protocol)
        return candidate.host
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                for protocol in made:
                    await protocol.close()


class _Nobody:
    """Hears nothing, as `StunProtocol` needs someone."""

    def data_received(self, data: bytes, component: int) -> None:
        pass

    def protocol_lost(self, protocol: StunProtocol) -> None:
        pass

    def request_received(self, message: Any, addr: Any, protocol: Any, raw_data: Any = None) -> None:
        pass
