"""Videos with stored pictures for tests of annotated videos, and their encoder processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from monolith.domain.events import FramesStored, frames_stream
from monolith.domain.segment import StoredFrame
from monolith.frames.jpeg import Picture, encode
from tests.unit.readmodels.story import VIDEO, Streamed

PACK = "000000-1.mjpeg"


def background(number: int, width: int, height: int) -> Picture:
    """A smooth picture, a little different for each frame: codecs change little of it."""
    across = np.linspace(40, 90, width)[None, :, None]
    down = np.linspace(0, 40, height)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(across + down + number % 3, (height, width, 3)), np.uint8)


def store_frames(
    folder: Path,
    frames: Iterable[tuple[int, float, int, int]],
    *,
    segment: int = 0,
    pack: str = PACK,
    video_id: str = VIDEO,
) -> Streamed:
    """Write a pack of `frames` (number, timestamp, width, height) into the data directory `folder`; its event."""
    path = folder / "videos" / video_id / "packs" / pack
    path.parent.mkdir(parents=True, exist_ok=True)
    stored: list[StoredFrame] = []
    with path.open("wb") as file:
        for number, timestamp, width, height in frames:
            jpeg = encode(background(number, width, height), 95)
            stored.append(
                StoredFrame(
                    frame_number=number, timestamp=timestamp, offset=file.tell(), length=len(jpeg),
                    width=width, height=height,
                )
            )  # fmt: skip
            file.write(jpeg)
    event = FramesStored(
        video_id=video_id, segment=segment, attempt=1, pack=pack, frames=tuple(stored),
        decode_seconds=0.5, resize_seconds=0.25, encode_seconds=0.125,
    )  # fmt: skip
    return frames_stream(video_id, segment), event


def pictures(data: bytes, folder: Path) -> list[tuple[float, Picture]]:
    """Time and pixels of every picture of a video."""
    path = folder / "fetched.mp4"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        return [
            (round(frame.time or 0.0, 3), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            for frame in container.decode(video=0)
        ]


async def until(
    client: httpx.AsyncClient, path: str, *statuses: str, timeout: float = 60, **query: Any
) -> dict[str, Any]:
    """The state of the annotated video once it is one of `statuses`."""
    async with asyncio.timeout(timeout):
        while True:
            body: dict[str, Any] = (await client.get(path, params=query)).json()
            if body["status"] in statuses:
                return body
            await asyncio.sleep(0.02)


def encoders(parent: int | None = None) -> list[int]:
    """Process ids of the encoder processes of `parent`, by default this process."""
    parent = os.getpid() if parent is None else parent
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            status = path.with_name("status").read_text()
        except OSError:  # it ended meanwhile
            continue
        if b"monolith.exports.encoder" in words and f"PPid:\t{parent}\n" in status:
            found.append(int(path.parent.name))
    return found


async def stopped_encoder(parent: int | None = None, timeout: float = 60) -> int:
    """The next encoder process, held still by SIGSTOP as soon as it is there; it goes on with SIGCONT."""
    async with asyncio.timeout(timeout):
        while not (found := encoders(parent)):
            await asyncio.sleep(0.005)
    os.kill(found[0], signal.SIGSTOP)
    return found[0]
