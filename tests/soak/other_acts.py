"""What else happens in an hour: readers of events that read no more, and processes of the program that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket

from tests.peers.processes import children_of
from tests.peers.rtmp import ffmpeg_to
from tests.soak.stage import ENDED, Stage


async def stalled_event_readers(stage: Stage, chance: random.Random) -> None:
    """Two open the events of a video on the air and read nothing; one goes in its midst, one when it is over."""
    endpoint = await stage.rtmp()
    first, second = _reader(stage, endpoint.video_id), _reader(stage, endpoint.video_id)
    with first, second:
        async with ffmpeg_to(endpoint.url, stage.clips.plain, stage.log) as publisher:
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            first.close()
            await publisher.wait()
        await stage.until(endpoint, lambda body: body["status"] == "Completed")


async def kill_decoder(stage: Stage, chance: random.Random) -> None:
    """Whatever it decodes is taken up by another one."""
    await _kill(stage, chance, r"monolith\.ingest\.decoder")


async def kill_worker(stage: Stage, chance: random.Random) -> None:
    await _kill(stage, chance, r"monolith\.inference\.worker")


async def kill_encoder(stage: Stage, chance: random.Random) -> None:
    """Of pictures for viewers."""
    await _kill(stage, chance, r"monolith\.live\.playback\.encoder")


async def killed_while_it_is_looked_at(stage: Stage, chance: random.Random) -> None:
    """All decoders die while a publisher begins; it goes on all the same."""
    endpoint = await stage.rtmp(ENDED)
    async with ffmpeg_to(endpoint.url, stage.clips.b_frames, stage.log, loop=True) as publisher:
        for _ in range(3):
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await kill_decoder(stage, chance)
        await stage.until_connected(endpoint)
        assert publisher.returncode is None
        publisher.terminate()
        await publisher.wait()


async def _kill(stage: Stage, chance: random.Random, module: str) -> None:
    pids = [pid for pid, line in children_of(stage.server.pid).items() if re.search(module, line)]
    if pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
    await asyncio.sleep(0.3)


def _reader(stage: Stage, video_id: str) -> socket.socket:
    """Has asked for the events, takes hardly any answer."""
    port = int(stage.server.url.rpartition(":")[2])
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.connect(("127.0.0.1", port))
    reader.sendall(
        f"GET /analysis/{video_id}/events/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    )
    return reader
