"""ICE against real servers and through real NAT: coturn, and network namespaces of the test's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiortc import RTCSessionDescription

from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.peers import answer, close_peer, new_peer, take_offer
from monolith.live.webrtc.sdp import check_offer
from tests.peers.coturn import PASSWORD, USER, coturn
from tests.peers.namespaces import Namespace, namespaces
from tests.peers.whep import Viewer

SERVER = "203.0.113.2"
ROUTER = "203.0.113.1"
INSIDE = "10.78.1.2"


class Net:
    """`program` is behind `router`, which is in one network with `outside`."""

    def __init__(self, program: Namespace, router: Namespace, outside: Namespace) -> None:
        self.program, self.router, self.outside = program, router, outside
        program.cable(f"{INSIDE}/24", router, "10.78.1.1/24")
        router.cable(f"{ROUTER}/24", outside, f"{SERVER}/24")
        program.ip("route add default via 10.78.1.1")
        outside.ip(f"route add default via {ROUTER}")


@asynccontextmanager
async def net(folder: Path, *, nat: bool) -> AsyncIterator[Net]:
    """`nat`: the router translates what comes from within; else it lets nothing through, and coturn is on it."""
    with namespaces(3) as (program, router, outside):
        made = Net(program, router, outside)
        if nat:
            translating(router)
        address = SERVER if nat else ROUTER
        async with AsyncExitStack() as stack:
            with (outside if nat else router).entered():
                await stack.enter_async_context(coturn(address, folder))
            yield made


def translating(router: Namespace) -> None:
    """Masquerade, as at home: what is begun from outside does not come in."""
    router.route()
    router.nft("add chain ip test out { type nat hook postrouting priority 100; }")
    router.nft("add rule ip test out ip saddr 10.78.1.0/24 ip daddr 203.0.113.0/24 masquerade")
    router.nft("add chain ip test through { type filter hook forward priority 0; policy drop; }")
    router.nft("add rule ip test through ct state established,related accept")
    router.nft("add rule ip test through ip saddr 10.78.1.0/24 accept")


async def joined(made: Net, options: IceOptions, *, alone: bool = False) -> str:
    """The answer that a viewer outside gets, once they are connected through their data channel; `alone`: without."""
    peer = new_peer()
    with made.outside.entered():
        viewer = Viewer()
        await viewer.peer.setLocalDescription(await viewer.peer.createOffer())
    try:
        with made.program.entered():
            await take_offer(peer, check_offer(viewer.peer.localDescription.sdp.encode())[0])
            text, _ = await answer(peer, options)
        if not alone:
            await viewer.peer.setRemoteDescription(RTCSessionDescription(text, "answer"))
            async with asyncio.timeout(60):
                while viewer.channel.readyState != "open":
                    await asyncio.sleep(0.05)
        return text
    finally:
        await viewer.peer.close()
        await close_peer(peer)


def candidates(answer: str) -> set[tuple[str, str]]:
    """Kind and address of each."""
    lines = [line.split() for line in answer.splitlines() if line.startswith("a=candidate:")]
    return {(line[7], line[4]) for line in lines}


async def test_stun_tells_the_address_behind_nat(tmp_path: Path) -> None:
    async with net(tmp_path, nat=True) as made:
        text = await joined(made, IceOptions(servers=(f"stun:{SERVER}",)))
    assert candidates(text) == {("host", INSIDE), ("srflx", ROUTER)}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_turn_relays_where_there_is_no_other_way(tmp_path: Path, transport: str) -> None:
    uri = f"turn:{ROUTER}:3478?transport={transport}"
    async with net(tmp_path, nat=False) as made:
        options = IceOptions(servers=(uri,), username=USER, credential=PASSWORD)
        text = await joined(made, options)
    assert candidates(text) == {("host", INSIDE), ("relay", ROUTER)}


async def test_a_server_that_gives_nothing_is_told_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    wrong, silent = f"turn:{ROUTER}", "stun:10.78.1.77"
    async with net(tmp_path, nat=False) as made:
        options = IceOptions(servers=(wrong, silent), username=USER, credential="guess")
        assert candidates(await joined(made, options, alone=True)) == {("host", INSIDE)}
        assert f"{wrong} gives no address (STUN transaction failed (401" in caplog.text
        assert f"{silent} gives no address (no answer within 3 s)" in caplog.text
        told = caplog.text
        async with asyncio.timeout(60):
            await joined(made, options, alone=True)
        assert caplog.text == told, "neither is asked again so soon"
