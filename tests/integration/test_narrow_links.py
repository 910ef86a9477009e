"""Viewers whose network loses packets, or carries less than comes; encoders that fail. Chromium and aiortc watch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from monolith.live.packets import LivePacket
from monolith.live.playback import link, shared_encoder
from monolith.live.playback.link import Level
from tests.integration.test_whep import B_FRAMES, PASSES, SDP, WHEP, Live, live_by, shown, until
from tests.live_clips import packets_of
from tests.peers.chromium import Chromium, Page, chromium
from tests.peers.link import Link
from tests.unit.api.harness import running_api
from tests.videos import make_video

WIDTH, HEIGHT, RATE = 640, 480, 25

SCRIPT = """
async function offer() {
  window.peer = new RTCPeerConnection();
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  peer.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  peer.addTransceiver("video", { direction: "recvonly" });
  await peer.setLocalDescription();
  while (peer.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
  return peer.localDescription.sdp;
}
async function take(sdp) { await peer.setRemoteDescription({ type: "answer", sdp }); return true; }
async function seen() {
  const reports = [...(await peer.getStats()).values()];
  const video = reports.find((one) => one.type === "inbound-rtp" && one.kind === "video");
  return { decoded: video?.framesDecoded ?? 0, height: video?.frameHeight ?? 0 };
}
0"""


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with running_api(tmp_path) as api, live_by(api) as live:
        yield live


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path / "chromium") as running:
        yield running


def noise(path: Path) -> list[LivePacket]:
    """Two seconds of what is hard to encode, about 1.5 Mb/s, a keyframe each second."""
    chance = np.random.default_rng(1)
    ground = chance.integers(60, 190, (HEIGHT // 8, WIDTH // 8 + 50, 3), np.uint8)
    options = {
        "g": str(RATE),
        "bf": "0",
        "b": "1500k",
        "maxrate": "1500k",
        "bufsize": "750k",
        "preset": "veryfast",
    }
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(2 * RATE):
            rough = ground[:, number : number + WIDTH // 8] + chance.integers(0, 40, (1, 1, 3), np.uint8)
            picture = np.ascontiguousarray(rough.repeat(8, axis=0).repeat(8, axis=1))
            container.mux(stream.encode(VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return packets_of(path)


@asynccontextmanager
async def watching(live: Live, browser: Chromium, through: Link) -> AsyncIterator[tuple[Page, str]]:
    """A page that plays, and the path of its session."""
    async with browser.page("about:blank") as page:
        await page.run(SCRIPT)
        offered = through.offer(await page.run("offer()"))
        answer = await live.api.client.post(WHEP, content=offered, headers=SDP)
        assert answer.status_code == 201, answer.text
        assert await page.run(f"take({json.dumps(through.answer(answer.text))})")
        yield page, answer.headers["location"]


async def until_seen(page: Page, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(60):
            while not wanted(seen := await page.run("seen()")):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(str(seen)) from error
    return seen


async def level(live: Live, session: str) -> dict[str, Any]:
    told: dict[str, Any] = (await live.api.client.get(session)).raise_for_status().json()
    return told


async def test_a_narrow_link_gets_smaller_pictures_until_it_is_wide_again(
    live: Live, browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches beside it gets all of them, all the time."""
    monkeypatch.setattr(link, "FIRST_PAUSE", 4.0)
    monkeypatch.setattr(link, "LONGEST_PAUSE", 4.0)
    async with (
        live.published(noise(tmp_path / "noise.mp4")),
        Link() as wide,
        Link(rate=700_000) as narrow,
        watching(live, browser, wide) as (good, _),
    ):
        await until_seen(good, lambda seen: seen["decoded"] > 5)
        async with watching(live, browser, narrow) as (poor, session):
            await until_seen(poor, lambda seen: seen["height"] == 360)
            before = await poor.run("seen()")
            await until_seen(poor, lambda seen: seen["decoded"] > before["decoded"] + 10)
            told = await level(live, session)
            assert told["packets_resent"] > 0
            assert live.viewers.sums("steps_down") >= 1
            narrow.rate = None
            await until_seen(poor, lambda seen: seen["height"] == HEIGHT)
            told = await level(live, session)
            assert (told["level"], told["reason"]) == ("full", "")
        assert (await good.run("seen()"))["height"] == HEIGHT


async def test_lost_packets_are_sent_again(live: Live, browser: Chromium, tmp_path: Path) -> None:
    async with (
        live.published(noise(tmp_path / "noise.mp4")),
        Link(loss=0.03) as lossy,
        watching(live, browser, lossy) as (page, session),
    ):
        await until_seen(page, lambda seen: seen["decoded"] > 60)
        told = await level(live, session)
        assert lossy.lost > 0
        assert told["packets_resent"] > 0
        assert 0 <= told["packets_lost"] <= 1


async def test_viewers_of_pictures_as_they_are_and_with_boxes_share_one_encoder(
    live: Live, tmp_path: Path
) -> None:
    burned = "?overlay=burned"
    async with (
        live.published(packets_of(make_video(tmp_path, PASSES))),
        live.watch() as first,
        live.watch(query=burned) as second,
        live.watch(query=burned) as third,
    ):
        for viewer in (first, second, third):
            assert shown(await viewer.picture()) > 0
        assert (live.viewers.encoders, len(encoders())) == (1, 1)
    await until(lambda: not live.viewers.encoders and not encoders())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP], ids=["is killed", "hangs"])
async def test_an_encoder_that_fails_is_replaced(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    """And nobody who watches by it has to come again."""
    monkeypatch.setattr(shared_encoder, "_ANSWER_SECONDS", 4.0)
    async with live.published(packets_of(make_video(tmp_path, B_FRAMES))), live.watch() as viewer:
        await viewer.picture()
        (pid,) = encoders()
        os.kill(pid, sent)
        await until(lambda: bool(encoders() - {pid}))
        async with asyncio.timeout(60):
            while not (await viewer.picture()).key_frame:
                continue
        await until(lambda: pid not in encoders())
        assert (live.viewers.encoders, len(live.viewers)) == (1, 1)
        assert live.viewers.levels()[Level.FULL] == 1


def encoders() -> set[int]:
    """Encoder processes of this program that are not over."""
    found = set()
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"playback.encoder" in command.read_bytes():
                found.add(int(pid))
    return found
