"""From the camera to the eye: pictures that say which they are, published by RTMP to the program, watched in Chromium
by WHEP. 1280×720 at 30 pictures a second, objects found in every third of them. Without the player delay.

The publisher encodes as OBS does at its fastest (x264 `veryfast`, `zerolatency`), and that counts.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.live_publisher import Way, nearest, publication, publishing
from benchmarks.rtmp_four import endpoints, until_connected
from tests.peers.chromium import chromium
from tests.peers.whep import PAGE_SCRIPT
from tests.program import Server

_FRAME_STEP: Final = 3
_SECONDS: Final = 20.0
_BEGINNING: Final = 0.25
"""Of the pictures: the program and the browser are warming up."""


async def run() -> dict[str, float]:
    return await watched("rtmp")


async def watched(way: Way, *, seconds: float = _SECONDS) -> dict[str, float]:
    """Milliseconds from the moment when a picture was taken until it is displayed; how many pictures tell it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Server(folder) as server, server.client() as client:
            (made,) = await endpoints(client, way, 1, _FRAME_STEP)
            async with publishing(publication(way, made, folder, pictures="plates")) as taken:
                await until_connected(client, made["video_id"])
                shown = await watch(server, made["video_id"], folder, seconds)
    late = [
        moment - before for number, moment in shown if (before := nearest(taken, number, moment)) is not None
    ]
    late = late[round(len(late) * _BEGINNING) :]
    quantiles = statistics.quantiles(late, n=20)
    return {"p50_ms": quantiles[9], "p95_ms": quantiles[18], "pictures": float(len(late))}


async def watch(server: Server, video_id: str, folder: Path, seconds: float) -> list[tuple[int, float]]:
    """Numbers seen, and when, in milliseconds of Unix time."""
    async with chromium(folder / "chromium") as browser, browser.page(server.url + "/docs") as page:
        await page.run(PAGE_SCRIPT + ";0")
        assert await page.run(f"watch({json.dumps(f'{server.url}/whep/{video_id}')})") == {"status": 201}
        await asyncio.sleep(seconds)
        seen = await page.run("watching.pictures.map(({ number, at }) => [number, at])")
    return [(number, at) for number, at in seen if number is not None]


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:10} {value:10.2f}")
