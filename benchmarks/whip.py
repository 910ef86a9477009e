"""Publishing by WHIP beside publishing by RTMP: what the main process spends on a publisher of 1280×720 at 30/s and
4 Mb/s, H.264 without B-frames; and from the camera to the eye, in by WHIP and out by WHEP.

The publishers pass on a clip that was encoded before, each in a process of its own. The main process takes their bytes
(by WHIP: SRTP, jitter buffer and RTCP, too) and hands pictures to the decoders, whose work is the same for both.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks import glass
from benchmarks.live_media import encode_street
from benchmarks.live_publisher import Way, publication, publishing
from benchmarks.rtmp_four import FRAME_STEP, endpoints, measured, until_connected
from tests.program import Server

PUBLISHERS: Final = 4
SECONDS: Final = 20.0
_CLIP_SECONDS: Final = 20.0


async def run(*, seconds: float = SECONDS, clip_seconds: float = _CLIP_SECONDS) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "street.mp4"
        await asyncio.to_thread(encode_street, clip, clip_seconds, b_frames=0, profile="baseline")
        whip = await _ingested("whip", clip, folder, seconds)
        rtmp = await _ingested("rtmp", clip, folder, seconds)
    watched = await glass.watched("whip")
    return {
        "main_cores_each": whip["main_cores"] / PUBLISHERS,
        "rtmp_main_cores_each": rtmp["main_cores"] / PUBLISHERS,
        "to_rtmp": whip["main_cores"] / rtmp["main_cores"],
        "cores": whip["cores"],
        "pictures_per_s": whip["pictures_per_s"],
        "lost_share": whip["lost_share"],
        **{f"glass_{key}": value for key, value in watched.items()},
    }


async def _ingested(way: Way, clip: Path, folder: Path, seconds: float) -> dict[str, float]:
    work = folder / way
    work.mkdir()
    async with Server(work) as server, server.client() as client, AsyncExitStack() as publishers:
        videos = await endpoints(client, way, PUBLISHERS, FRAME_STEP)
        for number, made in enumerate(videos):
            own = work / f"publisher-{number}"
            own.mkdir()
            await publishers.enter_async_context(publishing(publication(way, made, own, clip=clip)))
            await until_connected(client, made["video_id"])
        return await measured(server, client, [one["video_id"] for one in videos], seconds)


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:22} {value:10.3f}")
