"""Publishing and watching where the network is in the way: loopback alone, ports that are passed on, a relay alone.

The networks are namespaces of the test's own; the whole program, publishers and browsers are in them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiortc import RTCConfiguration, RTCIceServer, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from tests.integration.test_webrtc_publishers import Publisher
from tests.media import sample_clip
from tests.peers.chromium import Page, chromium
from tests.peers.coturn import PASSWORD, USER, coturn
from tests.peers.namespaces import Namespace, namespaces
from tests.peers.nginx import nginx
from tests.peers.processes import running
from tests.peers.rtmp import ffmpeg_to
from tests.peers.whep import PAGE_SCRIPT
from tests.program import Server, plain_client
from tests.videos import Recipe, make_video

BODY = {"modelsToRun": ["color_detection"], "frameStep": 5}
CLIP = Recipe(frames=100, gop=25, width=320, height=240)
INSIDE, ROUTER, OUTSIDE = "10.79.1.2", "203.0.113.1", "203.0.113.2"


@asynccontextmanager
async def served(folder: Path, inside: Namespace, **settings: str) -> AsyncIterator[Server]:
    """The program in the network `inside`."""
    server = Server(folder, PRECISION="f32", **settings)
    with inside.entered():
        await server.start()
    try:
        yield server
    finally:
        assert await server.stop() == 0
        assert "Traceback" not in server.output


async def endpoint(url: str, kind: str) -> dict[str, Any]:
    async with plain_client(base_url=url, timeout=60) as client:
        answer = await client.post(f"/analysis/{kind}-endpoint", json=BODY)
        made: dict[str, Any] = answer.raise_for_status().json()
        return made


async def until_connected(url: str, video_id: str, log: Path) -> None:
    """Pictures come."""
    async with plain_client(base_url=url, timeout=60) as client:
        try:
            async with asyncio.timeout(90):
                while not (await client.get(f"/analysis/{video_id}")).json().get("connected"):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise TimeoutError(log.read_text(errors="replace")[-3000:]) from error


async def watched(page: Page, whep: str, how: dict[str, str] | None = None) -> dict[str, Any]:
    """What the page has seen when some pictures and results have come. `how`: of its RTCPeerConnection."""
    await page.run(PAGE_SCRIPT + ";0")
    answer = await page.run(f"watch({json.dumps(whep)}, {json.dumps(how or {})})")
    assert answer == {"status": 201}, answer
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(90):
            while seen.get("decoded", 0) < 10 or not seen["messages"]:
                seen = await page.run("seen()")
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(seen)[:2000]) from error
    return seen


@asynccontextmanager
async def pushing(made: dict[str, Any], folder: Path) -> AsyncIterator[Path]:
    """FFmpeg's WHIP muxer; its log. It knows one way to the program: the first candidate."""
    clip = sample_clip("bikes.mp4")
    arguments = [made["whip_endpoint"], made["token"], str(clip), "60", str(folder)]
    async with running([sys.executable, "-m", "tests.peers.whip", *arguments], folder / "push.log"):
        yield folder / "push.log"


async def test_a_machine_with_loopback_alone(tmp_path: Path) -> None:
    clip = make_video(tmp_path, CLIP)
    with namespaces(1) as (alone,):
        async with served(tmp_path, alone) as server:
            with alone.entered():
                async with chromium(tmp_path / "browser") as browser:
                    made = await endpoint(server.url, "rtmp")
                    async with (
                        ffmpeg_to(made["rtmp_endpoint"], clip, tmp_path / "rtmp.log", loop=True),
                        browser.page(server.url) as page,
                    ):
                        await until_connected(server.url, made["video_id"], tmp_path / "rtmp.log")
                        seen = await watched(page, f"{server.url}/whep/{made['video_id']}")
                        assert seen["codec"] == "video/H264"
                    made = await endpoint(server.url, "webrtc")
                    async with pushing(made, tmp_path) as log, browser.page(server.url) as page:
                        await until_connected(server.url, made["video_id"], log)
                        await watched(page, f"{server.url}/whep/{made['video_id']}")


@asynccontextmanager
async def behind_a_router(folder: Path, ports: str) -> AsyncIterator[tuple[Namespace, Namespace]]:
    """The program's network, and one outside. The router passes on TCP 18000 and 21935 as 8000 and 1935, UDP `ports` as
    they are, as a container's host does; nothing that is begun from within gets out."""
    with namespaces(3) as (inside, router, outside):
        inside.cable(f"{INSIDE}/24", router, "10.79.1.1/24")
        router.cable(f"{ROUTER}/24", outside, f"{OUTSIDE}/24")
        inside.ip("route add default via 10.79.1.1")
        router.route()
        router.nft("add chain ip test in { type nat hook prerouting priority -100; }")
        for published, port in ((18000, 8000), (21935, 1935)):
            router.nft(f"add rule ip test in ip daddr {ROUTER} tcp dport {published} dnat to {INSIDE}:{port}")
        router.nft(f"add rule ip test in ip daddr {ROUTER} udp dport {ports} dnat to {INSIDE}")
        router.nft("add chain ip test through { type filter hook forward priority 0; policy drop; }")
        router.nft("add rule ip test through ct state established,related accept")
        router.nft("add rule ip test through ct status dnat accept")
        yield inside, outside


async def test_ports_that_are_passed_on_as_to_a_container(tmp_path: Path) -> None:
    clip, public = make_video(tmp_path, CLIP), f"http://{ROUTER}:18000"
    settings = {
        "HOST": "0.0.0.0", "AUTH": "off", "PORT": "8000", "RTMP_PORT": "1935", "ICE_PORTS": "50000-50010",
        "PUBLIC_URL": public, "RTMP_PUBLIC_URL": f"rtmp://{ROUTER}:21935", "ICE_PUBLIC_ADDRESS": ROUTER,
    }  # fmt: skip
    async with (
        behind_a_router(tmp_path, "50000-50010") as (inside, outside),
        served(tmp_path, inside, **settings),
    ):
        with outside.entered():
            made = await endpoint(public, "rtmp")
            assert made["rtmp_endpoint"].startswith(f"rtmp://{ROUTER}:21935/live/")
            async with ffmpeg_to(made["rtmp_endpoint"], clip, tmp_path / "rtmp.log", loop=True):
                await until_connected(public, made["video_id"], tmp_path / "rtmp.log")
                async with chromium(tmp_path / "browser") as browser, browser.page(public) as page:
                    await watched(page, f"{public}/whep/{made['video_id']}")
            made = await endpoint(public, "webrtc")
            assert made["whip_endpoint"].startswith(f"{public}/whip/")
            async with pushing(made, tmp_path) as log:
                await until_connected(public, made["video_id"], log)


TURN = "10.79.9.9"


@asynccontextmanager
async def only_a_relay(folder: Path) -> AsyncIterator[tuple[Namespace, Namespace, str]]:
    """The program's network, another one, and the program's URL there. Between them is a machine that passes nothing
    on: it has nginx for HTTP, coturn for the rest."""
    with namespaces(3) as (inside, between, outside):
        inside.cable(f"{INSIDE}/24", between, "10.79.1.1/24")
        outside.cable(f"{OUTSIDE}/24", between, f"{ROUTER}/24")
        inside.ip("route add default via 10.79.1.1")
        outside.ip(f"route add default via {ROUTER}")
        between.ip(f"addr add {TURN}/32 dev lo")
        public = f"http://{TURN}:8000"
        to_program = f"proxy_pass http://{INSIDE}:8000; proxy_set_header Host $http_host;"
        proxy = f"listen {TURN}:8000; location / {{ {to_program} }}"
        async with AsyncExitStack() as stack:
            with between.entered():
                await stack.enter_async_context(coturn(TURN, folder))
                await stack.enter_async_context(nginx(folder / "www", folder / "nginx", proxy))
            yield inside, outside, public


@asynccontextmanager
async def publishing(made: dict[str, Any], *, by_relay: bool) -> AsyncIterator[None]:
    servers = [RTCIceServer(f"turn:{TURN}:3478", USER, PASSWORD)] if by_relay else []
    policy = RTCIceTransportPolicy.RELAY if by_relay else RTCIceTransportPolicy.ALL
    async with Publisher(configuration=RTCConfiguration(servers, iceTransportPolicy=policy)) as publisher:
        headers = {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/sdp"}
        async with plain_client(timeout=60) as client:
            offer = await publisher.offer()
            assert (b"typ host" in offer) is not by_relay
            answer = await client.post(made["whip_endpoint"], content=offer, headers=headers)
        assert answer.status_code == 201, answer.text
        await publisher.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        yield


async def test_nothing_but_a_relay_between_them(tmp_path: Path) -> None:
    """Once the program alone uses it; once publisher and browser do, too, and the browser knows it by `Link`."""
    async with only_a_relay(tmp_path) as (inside, outside, public):
        settings = {
            "HOST": "0.0.0.0", "AUTH": "off", "PORT": "8000", "PUBLIC_URL": public,
            "ICE_SERVERS": f"turn:{TURN}:3478", "ICE_USERNAME": USER, "ICE_CREDENTIAL": PASSWORD,
        }  # fmt: skip
        async with served(tmp_path, inside, **settings):
            with outside.entered():
                async with chromium(tmp_path / "browser") as browser:
                    for by_relay in (False, True):
                        made = await endpoint(public, "webrtc")
                        async with publishing(made, by_relay=by_relay), browser.page(public) as page:
                            await until_connected(public, made["video_id"], tmp_path / "server.log")
                            how = {"iceTransportPolicy": "relay"} if by_relay else {}
                            await watched(page, f"{public}/whep/{made['video_id']}", how)
