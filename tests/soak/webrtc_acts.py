"""What publishers by WHIP and viewers by WHEP do: well-behaved, abandoned, vanished, malformed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from aiortc import RTCSessionDescription

from tests.integration.test_webrtc_publishers import Publisher
from tests.peers.processes import running
from tests.peers.rtmp import ffmpeg_to
from tests.peers.whep import Viewer
from tests.soak.stage import DELETED, ENDED, Endpoint, Stage

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
CANDIDATE = "a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host\r\n"
_CODECS = ("VP8", "H264")


async def publish_and_delete(stage: Stage, chance: random.Random) -> None:
    """Publishes, trickles good and bad candidates, deletes its session twice: its video is complete."""
    endpoint = await stage.whip()
    async with _publishing(stage, endpoint, chance) as session, stage.airing(endpoint):
        await stage.until_connected(endpoint)
        await _patches(stage, endpoint, session, chance)
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        right = _bearer(endpoint)
        assert (await stage.client.delete(session.headers["location"], headers=right)).status_code == 200
        again = await stage.client.delete(session.headers["location"], headers=right)
        assert again.status_code in (200, 401, 404, 410), again.text
    await stage.until(endpoint, lambda body: body["status"] == "Completed")


async def publish_and_vanish(stage: Stage, chance: random.Random) -> None:
    """Goes without a word, at any moment; comes again perhaps."""
    endpoint = await stage.whip(ENDED)
    for _ in range(chance.randrange(1, 3)):
        with contextlib.suppress(_BusyError):  # the one who vanished is not missed yet
            async with _publishing(stage, endpoint, chance):
                await asyncio.sleep(chance.uniform(0.0, 2.0))


async def ffmpegs_whip(stage: Stage, chance: random.Random) -> None:
    """FFmpeg's muxer, killed in the midst or at its end."""
    endpoint = await stage.whip(ENDED)
    folder = stage.folder / f"whip-{endpoint.video_id}"
    folder.mkdir()
    arguments = [endpoint.url, endpoint.secret, stage.clips.plain, "2", folder]
    command = [sys.executable, "-m", "tests.peers.whip", *map(str, arguments)]
    async with stage.airing(endpoint), running(command, stage.log) as publisher:
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                publisher.kill()
        async with asyncio.timeout(80):
            await publisher.wait()


async def abandoned(stage: Stage, chance: random.Random) -> None:
    """An offer, and nobody behind it; its video is cancelled, deleted or given up."""
    endpoint = await stage.whip(ENDED)
    async with Publisher(chance.choice(_CODECS)) as publisher:
        answer = await _offer(stage, endpoint, await publisher.offer())
        assert answer.status_code == 201, answer.text
    if chance.random() < 0.3:
        await stage.client.delete(answer.headers["location"], headers=_bearer(endpoint))
    if chance.random() < 0.6:
        stage.may_end(endpoint, DELETED)
        await stage.client.delete(f"/analysis/{endpoint.video_id}")


async def malformed_offers(stage: Stage, chance: random.Random) -> None:
    """Cut, mixed up, foreign, or no SDP at all: refused, or a session that nobody comes to, and that is deleted."""
    endpoint = await stage.whip(DELETED)
    async with Publisher() as publisher:
        good = await publisher.offer()
    lines = good.split(b"\r\n")
    offers = [
        chance.randbytes(2000),
        b"",
        good[: chance.randrange(len(good))],
        b"\r\n".join(chance.sample(lines, len(lines))),
        b"\r\n".join(line for line in lines if chance.random() < 0.9),
        good.replace(b"VP8", b"XYZ"),
        good + b"a=candidate:" + chance.randbytes(20).hex().encode() + b"\r\n",
        b"v=0\r\n" * 30_000,
    ]
    for offer in offers:
        answer = await _offer(stage, endpoint, offer)
        if answer.status_code in (401, 410):  # its video was over with the session that was deleted
            break
        assert answer.status_code in (201, 400, 409, 413, 422), (answer.status_code, answer.text, offer)
        if answer.status_code == 201:
            session = answer.headers["location"]
            assert (await stage.client.delete(session, headers=_bearer(endpoint))).status_code == 200
    await stage.client.delete(f"/analysis/{endpoint.video_id}")


async def wrong_tokens(stage: Stage, chance: random.Random) -> None:
    endpoint, other = await stage.whip(DELETED), await stage.whip(DELETED)
    for token in (other.secret, endpoint.secret[:-1], chance.randbytes(10).hex()):
        headers = SDP | {"Authorization": f"Bearer {token}"}
        answer = await stage.client.post(f"/whip/{endpoint.video_id}", content=b"v=0", headers=headers)
        assert answer.status_code in (401, 403, 429), answer.text
    for one in (endpoint, other):
        await stage.client.delete(f"/analysis/{one.video_id}")


async def second_publisher(stage: Stage, chance: random.Random) -> None:
    """409, while the first one goes on."""
    endpoint = await stage.whip()
    async with _publishing(stage, endpoint, chance) as session, Publisher() as second:
        refused = await _offer(stage, endpoint, await second.offer())
        assert refused.status_code == 409, refused.text
        await stage.until_connected(endpoint)
        await stage.client.delete(session.headers["location"], headers=_bearer(endpoint))


async def cancelled(stage: Stage, chance: random.Random) -> None:
    endpoint = await stage.whip()
    async with _publishing(stage, endpoint, chance):
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        if chance.random() < 0.5:
            stage.may_end(endpoint, DELETED)
            await stage.client.delete(f"/analysis/{endpoint.video_id}")
        else:
            stage.may_end(endpoint, ENDED)
            await stage.client.post(f"/analysis/{endpoint.video_id}/cancel")


async def viewers(stage: Stage, chance: random.Random) -> None:
    """Some watch one video at once and leave in all ways, while its publisher is killed or ends."""
    endpoint = await stage.rtmp(ENDED)
    clip = chance.choice(stage.clips)
    async with stage.airing(endpoint), ffmpeg_to(endpoint.url, clip, stage.log, loop=True) as publisher:
        await stage.until_connected(endpoint)
        watching = [_watch(stage, endpoint.video_id, chance, wants_picture=True) for _ in range(3)]
        await asyncio.gather(*watching)
        late = asyncio.create_task(_watch(stage, endpoint.video_id, chance, wants_picture=False))
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        publisher.kill() if chance.random() < 0.5 else publisher.terminate()
        await late


async def viewer_of_any(stage: Stage, chance: random.Random) -> None:
    """Of whatever is on the air now; and offers that are none."""
    on_air = sorted(stage.on_air)
    if on_air:
        video_id = chance.choice(on_air)
        await _watch(stage, video_id, chance, wants_picture=False)
        for offer in (chance.randbytes(500), b""):
            answer = await stage.client.post(f"/whep/{video_id}", content=offer, headers=SDP)
            assert answer.status_code in (400, 404), answer.text


async def _watch(stage: Stage, video_id: str, chance: random.Random, *, wants_picture: bool) -> None:
    query = "?overlay=burned" if chance.random() < 0.3 else ""
    sessions: list[str] = []

    async def signal(offer: str) -> str:
        answer = await stage.client.post(f"/whep/{video_id}{query}", content=offer, headers=SDP)
        if answer.status_code != 201:
            raise _NotLiveError(answer.text)
        sessions.append(answer.headers["location"])
        return answer.text

    async with Viewer(codec=chance.choice(("H264", "VP8", None))) as viewer:
        try:
            await viewer.watch(signal)
        except _NotLiveError:
            assert not wants_picture
            return
        if wants_picture:
            await viewer.picture(80)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        match chance.randrange(3):
            case 0:
                assert (await stage.client.delete(sessions[0])).status_code in (200, 404)
                assert (await stage.client.delete(sessions[0])).status_code == 404
            case 1:
                viewer.vanish()
            case _:
                pass  # it closes its connection


class _BusyError(Exception):
    """Another publisher is there."""


class _NotLiveError(Exception):
    """The video is not on the air, or no more."""


@asynccontextmanager
async def _publishing(
    stage: Stage, endpoint: Endpoint, chance: random.Random
) -> AsyncIterator[httpx.Response]:
    """The answer to its offer. It vanishes at the end. Raises _BusyError."""
    async with Publisher(
        chance.choice(_CODECS), kinds=chance.choice((("video",), ("video", "audio")))
    ) as one:
        one.track.size = (160, 120)
        answer = await _offer(stage, endpoint, await one.offer())
        if answer.status_code == 409:
            raise _BusyError
        assert answer.status_code == 201, answer.text
        await one.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        yield answer


async def _patches(stage: Stage, endpoint: Endpoint, session: httpx.Response, chance: random.Random) -> None:
    tag = session.headers["etag"]
    for body, match, status in (
        (CANDIDATE.encode(), tag, 204),
        (chance.randbytes(300), tag, 400),
        (b"a=candidate:" * 2000, tag, 413),
        (CANDIDATE.encode(), '"other"', 412),
        (CANDIDATE.encode(), "*", 422),
    ):
        headers = FRAGMENT | _bearer(endpoint) | {"If-Match": match}
        answer = await stage.client.patch(session.headers["location"], content=body, headers=headers)
        assert answer.status_code == status, (answer.status_code, answer.text, body[:100])


async def _offer(stage: Stage, endpoint: Endpoint, offer: bytes) -> httpx.Response:
    return await stage.client.post(
        f"/whip/{endpoint.video_id}", content=offer, headers=SDP | _bearer(endpoint)
    )


def _bearer(endpoint: Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {endpoint.secret}"}
