"""What publishers by RTMP do: well-behaved, killed, coming again, refused, silent, and none at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from tests.peers.rtmp import ffmpeg_to, gstreamer_to
from tests.peers.rtmp_publisher import HANDSHAKE, RtmpPublisher, chunk_header, control
from tests.soak.raw import Wire, deaf_socket
from tests.soak.stage import DELETED, ENDED, Endpoint, Stage
from tests.unit.live.test_rtmp_packets import CONFIG, picture

_FLOODING: Final = "127.0.0.9"


async def publish_in_order(stage: Stage, chance: random.Random) -> None:
    """FFmpeg sends a clip and says that it is over: the video completes by that alone."""
    endpoint = await stage.rtmp()
    async with stage.airing(endpoint), ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log) as publisher:
        assert await publisher.wait() == 0
    await stage.until(endpoint, lambda body: body["status"] == "Completed")


async def several_at_once(stage: Stage, chance: random.Random) -> None:
    await asyncio.gather(*(publish_in_order(stage, chance) for _ in range(3)))


async def killed_and_back(stage: Stage, chance: random.Random) -> None:
    """Killed once or more, back after a short break or one that is nearly too long, over in order at last."""
    endpoint = await stage.rtmp()
    async with stage.airing(endpoint):
        for _ in range(chance.randrange(1, 4)):
            async with ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log, loop=True) as publisher:
                await asyncio.sleep(chance.uniform(0.1, 2.0))
                await _kill(publisher)
            await asyncio.sleep(chance.choice((0.0, 0.1, 0.5, 1.5)))
        async with ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log) as publisher:
            await publisher.wait()


async def killed_for_good(stage: Stage, chance: random.Random) -> None:
    """Silence ends its video."""
    endpoint = await stage.rtmp(ENDED)
    async with (
        stage.airing(endpoint),
        ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log, loop=True) as one,
    ):
        await asyncio.sleep(chance.uniform(0.2, 2.5))
        await _kill(one)


async def gstreamer(stage: Stage, chance: random.Random) -> None:
    """Either sink: to its end, or killed. `rtmpsink` ends without a word."""
    endpoint = await stage.rtmp(ENDED)
    sink = chance.choice(("rtmpsink", "rtmp2sink"))
    async with gstreamer_to(sink, endpoint.url, stage.clips.plain, stage.log) as publisher:
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            await _kill(publisher)
        else:
            async with asyncio.timeout(60):
                await publisher.wait()


async def second_publisher(stage: Stage, chance: random.Random) -> None:
    """Refused, while the first one goes on."""
    endpoint = await stage.rtmp()
    async with ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log, loop=True) as first:
        await stage.until_connected(endpoint)
        async with stage.wire() as second:
            await second.send(second.publisher.begin(endpoint.secret))
            await second.until_told("BadName")
            await second.until_closed()
        assert first.returncode is None
        first.terminate()
        await first.wait()


async def cancelled(stage: Stage, chance: random.Random) -> None:
    """`cancel` in the midst of a publish sends the publisher away; so does `DELETE`."""
    deleted = chance.random() < 0.5
    endpoint = await stage.rtmp()
    async with (
        stage.airing(endpoint),
        ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log, loop=True) as one,
    ):
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        if deleted:
            stage.may_end(endpoint, DELETED)
            await stage.client.delete(f"/analysis/{endpoint.video_id}")
        else:
            stage.may_end(endpoint, ENDED)  # Failed where no picture had come yet
            await stage.client.post(f"/analysis/{endpoint.video_id}/cancel")
        async with asyncio.timeout(60):
            assert await one.wait() != 0


async def wrong_keys(stage: Stage, chance: random.Random) -> None:
    """A key nearly right, one that is none, another application; then nobody publishes, and the video is given up."""
    endpoint = await stage.rtmp(DELETED)
    nearly = endpoint.secret[:-4] + ("AAAA" if not endpoint.secret.endswith("AAAA") else "BBBB")
    for key, app in ((nearly, "live"), (chance.randbytes(40).hex(), "live"), (endpoint.secret, "vod")):
        async with stage.wire() as wire:
            await wire.send(wire.publisher.begin(key, app))
            await wire.until_told("NetStream.Publish")
            await wire.until_closed()
    await stage.client.delete(f"/analysis/{endpoint.video_id}")


async def half_handshake(stage: Stage, chance: random.Random) -> None:
    """Some of the first bytes, and then nothing: closed when its time is over, or by itself."""
    whole = RtmpPublisher().begin("nobody")
    async with stage.wire() as wire:
        await wire.send(
            whole[: chance.choice((0, 1, 2, 700, 1 + HANDSHAKE, 2 * HANDSHAKE, 1 + 2 * HANDSHAKE))]
        )
        await _leave(wire, chance)


async def byte_by_byte(stage: Stage, chance: random.Random) -> None:
    """A right publish in small pieces, with breaks; it never gets as far as that."""
    async with stage.wire() as wire:
        whole = wire.publisher.begin("nobody")
        for at in range(0, len(whole), 300):
            await wire.send(whole[at : at + 300])
            await asyncio.sleep(chance.uniform(0.0, 0.3))
        await wire.until_closed()


async def garbage(stage: Stage, chance: random.Random) -> None:
    """At each state of the protocol; also as the publisher of a video, which then waits for another one."""
    endpoint = await stage.rtmp(ENDED)
    publisher = RtmpPublisher()
    states = [b"", b"\x03", publisher.hello(), publisher.connect(), publisher.create_stream()]
    async with stage.wire() as wire:
        for sent in states[: chance.randrange(1, len(states) + 1)]:
            await wire.send(sent)
        await wire.send(chance.randbytes(chance.randrange(1, 20_000)))
        await _leave(wire, chance)
    async with stage.wire() as wire:
        await _publishing(wire, endpoint)
        if chance.random() < 0.5:
            await wire.send(wire.publisher.video(CONFIG, 0) + wire.publisher.video(picture(keyframe=True), 0))
        await wire.send(chance.randbytes(chance.randrange(1, 50_000)))
        await _leave(wire, chance)
    if chance.random() < 0.7:  # a good one comes after all
        async with ffmpeg_to(endpoint.url, _clip(stage, chance), stage.log) as good:
            await good.wait()


async def garbage_pictures(stage: Stage, chance: random.Random) -> None:
    """Messages in order, with nothing in them that a decoder could decode; or no video at all."""
    endpoint = await stage.rtmp(ENDED)
    async with stage.wire() as wire:
        await _publishing(wire, endpoint)
        await wire.send(wire.publisher.video(CONFIG, 0))
        for number in range(chance.randrange(1, 60)):
            data = chance.randbytes(chance.randrange(1, 3000))
            whole = chance.random() < 0.98
            await wire.send(
                wire.publisher.video(
                    picture(keyframe=number % 10 == 0, data=data) if whole else data, number * 40
                )
            )
            await asyncio.sleep(0.01)
        if chance.random() < 0.5:
            await wire.send(wire.publisher.unpublish(endpoint.secret))
    await stage.client.post(f"/analysis/{endpoint.video_id}/cancel")


async def oversized(stage: Stage, chance: random.Random) -> None:
    """Sizes that are only declared, chunk sizes beyond reason, many chunk streams at once, more bits than allowed."""
    endpoint = await stage.rtmp(DELETED)
    declared = chunk_header(0, 6, size=0xFFFFFF, type_id=9, stream_id=1)
    ways = [
        declared + bytes(100),
        chunk_header(0, 3, size=0xFFFFFF, type_id=20) + bytes(100_000),
        control(1, 0x7FFFFFFF) + declared + bytes(2_000_000),
        control(1, 1),
        b"".join(
            chunk_header(0, 64 + n, size=200_000, type_id=9, stream_id=1) + bytes(128) for n in range(5000)
        ),
        declared + (bytes(128) + b"\xc6") * 60_000,
    ]
    for way in chance.sample(ways, 3):
        async with stage.wire() as wire:
            await _publishing(wire, endpoint)
            await wire.send(way)
            await _leave(wire, chance)
    await stage.client.delete(f"/analysis/{endpoint.video_id}")


async def silent(stage: Stage, chance: random.Random) -> None:
    """Publishes, and then says nothing: cut off; its video ends by silence."""
    endpoint = await stage.rtmp(ENDED)
    async with stage.wire() as wire:
        await _publishing(wire, endpoint)
        if chance.random() < 0.5:
            await wire.send(wire.publisher.video(CONFIG, 0))
        await wire.until_closed()
    if chance.random() < 0.5:
        await stage.client.delete(f"/analysis/{endpoint.video_id}")
        stage.may_end(endpoint, DELETED)


async def deaf(stage: Stage, chance: random.Random) -> None:
    """Asks for answers and does not read them."""
    endpoint = await stage.rtmp(DELETED)
    publisher = RtmpPublisher()
    pings = publisher.hello() + publisher.connect() + publisher.message(4, b"\0\6" + bytes(4)) * 100_000
    with (
        deaf_socket(stage.rtmp_port) as client,
        contextlib.suppress(ConnectionError),
    ):
        async with asyncio.timeout(60):
            await asyncio.get_running_loop().sock_sendall(client, pings)
    await stage.client.delete(f"/analysis/{endpoint.video_id}")


async def flood(stage: Stage, chance: random.Random) -> None:
    """Many connections of one address at once; those beyond the limit are closed, those of others are not."""

    async def one() -> None:
        with contextlib.suppress(ConnectionError):
            async with stage.wire(_FLOODING) as wire:
                await wire.send(b"\x03" if chance.random() < 0.5 else b"GET / HTTP/1.1\r\n\r\n")
                await asyncio.sleep(0.2)

    await asyncio.gather(*(one() for _ in range(60)))


async def _publishing(wire: Wire, endpoint: Endpoint) -> None:
    await wire.send(wire.publisher.begin(endpoint.secret))
    await wire.until_told("NetStream.Publish.Start")


async def _leave(wire: Wire, chance: random.Random) -> None:
    """Wait to be cut off, or go without a word."""
    if chance.random() < 0.3:
        wire.abort()
    else:
        await wire.until_closed()


def _clip(stage: Stage, chance: random.Random) -> Path:
    return chance.choice(stage.clips)


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
