"""From the camera to the eye: pictures that say which they are, published by RTMP to the program, watched in Chromium
by WHEP. 1280×720 at 30 pictures a second, objects found in every third of them. Without the player delay.

The publisher encodes as OBS does at its fastest (x264 `veryfast`, `zerolatency`), and that counts.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import av
from av.video.frame import VideoFrame

from tests.peers.chromium import chromium
from tests.peers.whep import PAGE_SCRIPT
from tests.program import Server
from tests.videos import barcode

WIDTH, HEIGHT, RATE = 1280, 720, 30
_SECONDS: Final = 20
_NUMBERS: Final = 256
_MOST_MS: Final = 4000


async def run() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with Server(Path(folder), RTMP_PORT="0") as server, server.client() as client:
            body = {"modelsToRun": ["objects_detection"], "frameStep": 3}
            made = (await client.post("/analysis/rtmp-endpoint", json=body)).raise_for_status().json()
            stop = threading.Event()
            taken: dict[int, float] = {}
            publishing = asyncio.create_task(
                asyncio.to_thread(publish, made["rtmp_endpoint"], taken, stop), name="publisher"
            )
            try:
                async with asyncio.timeout(60):
                    while not (await client.get(f"/analysis/{made['video_id']}")).json().get("connected"):
                        await asyncio.sleep(0.1)
                shown = await watch(server, made["video_id"], Path(folder))
            finally:
                stop.set()
                await publishing
    late = [
        moment - before for number, moment in shown if (before := nearest(taken, number, moment)) is not None
    ]
    late = late[len(late) // 4 :]
    quantiles = statistics.quantiles(late, n=20)
    return {"p50_ms": quantiles[9], "p95_ms": quantiles[18], "pictures": float(len(late))}


def nearest(taken: dict[int, float], number: int, moment: float) -> float | None:
    """When the picture that shows `number` at `moment` was taken; numbers come again after 256."""
    times = [at for index, at in taken.items() if index % _NUMBERS == number and 0 <= moment - at <= _MOST_MS]
    return max(times, default=None)


def publish(url: str, taken: dict[int, float], stop: threading.Event) -> None:
    """Pictures 0, 1, …, in time; `taken`: when, in milliseconds. Blocks until `stop` is set."""
    options = {"preset": "veryfast", "tune": "zerolatency", "g": str(RATE), "bf": "0", "b": "4M"}
    pictures = [barcode(number, WIDTH, HEIGHT) for number in range(_NUMBERS)]
    with av.open(url, "w", format="flv", options={"flush_packets": "1"}) as target:
        stream = target.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        started, number = time.monotonic(), 0
        while not stop.is_set():
            time.sleep(max(0.0, started + number / RATE - time.monotonic()))
            taken[number] = time.time() * 1000
            target.mux(stream.encode(VideoFrame.from_ndarray(pictures[number % _NUMBERS])))
            number += 1


async def watch(server: Server, video_id: str, folder: Path) -> list[tuple[int, float]]:
    """Numbers seen, and when, in milliseconds of Unix time."""
    async with chromium(folder / "chromium") as browser, browser.page(server.url + "/docs") as page:
        await page.run(PAGE_SCRIPT + ";0")
        assert await page.run(f"watch({json.dumps(f'{server.url}/whep/{video_id}')})") == {"status": 201}
        await asyncio.sleep(_SECONDS)
        seen = await page.run("watching.pictures.map(({ number, at }) => [number, at])")
    return [(number, at) for number, at in seen if number is not None]
