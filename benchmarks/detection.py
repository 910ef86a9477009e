"""From the camera to a detection at a client: 1280×720 at 30 pictures a second, published by RTMP; objects are looked
for in every third picture, and a client takes the server-sent events.

The clock is in the picture: each one carries a number, which is read in the stored frame that the detections are
about, and the publisher knows when it took that picture. So a figure holds: encoding (x264 `veryfast`, `zerolatency`),
RTMP over loopback, decoding, scaling, the JPEG of the stored frame and its way back to pixels, the wait for a worker,
the model, the synced frame pack, two events in the event store, and the event on its way to the client. Every frame
counts, also one without an object in it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from benchmarks.live_media import number_of
from benchmarks.live_publisher import nearest, publication, publishing
from benchmarks.rtmp_four import endpoints
from monolith.domain.events import AnalysedFrame
from monolith.frames import jpeg
from tests.program import Server

FRAME_STEP: Final = 3
SECONDS: Final = 30.0
_START_SECONDS: Final = 60.0
_BEGINNING: Final = 0.25
"""Of the frames: the program and its caches are warming up."""


class Told(msgspec.Struct, frozen=True):
    """A frame as the client heard of it. Moments in milliseconds of Unix time: when the model began, when it was done,
    when the client knew."""

    frame_number: int
    objects: int
    begun: float
    done: float
    heard: float


async def run(*, seconds: float = SECONDS) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        async with Server(Path(name)) as server, server.client() as client:
            (made,) = await endpoints(client, "rtmp", 1, FRAME_STEP)
            video_id: str = made["video_id"]
            async with publishing(publication("rtmp", made, Path(name))) as taken:
                told = await listen(client, video_id, seconds)
            shown = [await _shown(client, video_id, one.frame_number) for one in told]
            lost = (await client.get(f"/analysis/{video_id}")).json()["runs"][0]["frames_dropped"]
    moments = [nearest(taken, number, one.heard) for one, number in zip(told, shown, strict=True)]
    return figures([(before, one) for before, one in zip(moments, told, strict=True) if before], lost)


def figures(frames: list[tuple[float, Told]], lost: int) -> dict[str, float]:
    """Of frames with the moments when they were taken."""
    late = statistics.quantiles([one.heard - before for before, one in frames], n=20)
    return {
        "p50_ms": late[9],
        "p95_ms": late[18],
        "to_model_p50_ms": statistics.median(one.begun - before for before, one in frames),
        "model_p50_ms": statistics.median(one.done - one.begun for _, one in frames),
        "to_client_p50_ms": statistics.median(one.heard - one.done for _, one in frames),
        "frames": float(len(frames)),
        "with_objects_share": sum(one.objects > 0 for _, one in frames) / len(frames),
        "lost_share": lost / (lost + len(frames) / (1 - _BEGINNING)),
    }


async def listen(client: httpx.AsyncClient, video_id: str, seconds: float) -> list[Told]:
    """What the server-sent events say for `seconds` from the first analysed frame on, without the beginning."""
    told: list[Told] = []
    until = time.monotonic() + _START_SECONDS
    async with client.stream("GET", f"/analysis/{video_id}/events/stream") as answer:
        answer.raise_for_status()
        async for kind, data, heard in _events(answer):
            if kind == "FramesAnalysed":
                until = until if told else time.monotonic() + seconds
                told += [_told(frame, heard) for frame in data["frames"]]
            if time.monotonic() >= until:
                break
    return told[round(len(told) * _BEGINNING) :]


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any], float]]:
    """Event type, event, and when its last byte was there, in milliseconds."""
    kind = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            kind = value
        elif field == "data":
            yield kind, msgspec.json.decode(value)["data"], time.time() * 1000


def _told(item: object, heard: float) -> Told:
    frame = msgspec.convert(item, AnalysedFrame)
    begun = frame.started_at * 1000
    return Told(frame.frame_number, len(frame.detections), begun, begun + frame.seconds * 1000, heard)


async def _shown(client: httpx.AsyncClient, video_id: str, frame_number: int) -> int:
    """The number in a stored picture."""
    path = f"/analysis/{video_id}/frame/{frame_number}"
    answer = (await client.get(path, params={"annotated": "false"})).raise_for_status()
    return number_of(await asyncio.to_thread(jpeg.decode, answer.content))


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:20} {value:10.2f}")
