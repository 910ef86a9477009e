"""Twenty live sources at once, one frame a second of each: ten over RTSP, ten over HLS.

The peers are real and cheap: GStreamer and ffmpeg pass on an encoded clip (640×272 at 25/s, H.264) at its own speed, so
that the machine's time is the program's. Every source is a `frameStep` of 25 with all three models, in the
precision that the program chooses by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.media import looped_bikes
from benchmarks.pipeline import loop_lag_p99
from tests.peers.nginx import nginx
from tests.peers.processes import running, until
from tests.peers.programs import ffmpeg
from tests.peers.rtsp import file_mount, rtsp_server
from tests.program import ALL_MODELS, Server

EACH: Final = 10
_FRAME_RATE: Final = 25
_SECONDS: Final = 60.0
_START_SECONDS: Final = 120.0
_LOOPS: Final = 24
"""Of ten seconds each: more than starting and measuring take."""


@contextlib.asynccontextmanager
async def _playlists(clip: Path, folder: Path, work: Path) -> AsyncIterator[list[str]]:
    """Live playlists of `clip`, passed on as it is; their names."""
    async with contextlib.AsyncExitStack() as stack:
        names = [f"camera{number}" for number in range(EACH)]
        for name in names:
            playlist = folder / name / "live.m3u8"
            playlist.parent.mkdir(parents=True)
            arguments: list[str | Path] = [
                ffmpeg(), "-v", "error", "-re", "-i", clip, "-an", "-c:v", "copy", "-f", "hls", "-hls_time", "2",
                "-hls_list_size", "5", "-hls_flags", "delete_segments", playlist,
            ]  # fmt: skip
            log = work / f"{name}.log"
            await stack.enter_async_context(running(arguments, log))

            async def is_there(playlist: Path = playlist) -> bool:
                return playlist.exists() and playlist.read_text().count("#EXTINF") >= 2

            await until(is_there, f"{name} is there", log)
        yield [f"{name}/live.m3u8" for name in names]


@contextlib.asynccontextmanager
async def _peers(folder: Path) -> AsyncIterator[list[str]]:
    """The addresses of all sources."""
    clip = await asyncio.to_thread(looped_bikes, folder, _LOOPS)
    mounts = {f"/camera{number}": file_mount(clip) for number in range(EACH)}
    root, work = folder / "www", folder / "work"
    work.mkdir()
    async with (
        rtsp_server(mounts, work / "rtsp") as port,
        nginx(root, work / "nginx") as web,
        _playlists(clip, root, work) as playlists,
    ):
        yield [
            *(f"rtsp://127.0.0.1:{port}{path}" for path in mounts),
            *(f"{web.url}/{path}" for path in playlists),
        ]


async def _submit(client: httpx.AsyncClient, url: str) -> str:
    body = {"videoURL": url, "modelsToRun": list(ALL_MODELS), "frameStep": _FRAME_RATE}
    answer = await client.post("/analysis/start", content=json.dumps(body))
    answer.raise_for_status()
    return str(answer.json()["video_id"])


async def _state(client: httpx.AsyncClient, video_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).json()
    if body["status"] == "Failed":
        raise RuntimeError(f"{body['video_url']}: {body['error']}")
    return body


async def _until_all_run(client: httpx.AsyncClient, videos: list[str]) -> None:
    async with asyncio.timeout(_START_SECONDS):
        for video_id in videos:
            while not (await _state(client, video_id))["greatest_frame_analyzed"]:
                await asyncio.sleep(0.5)


async def _counts(client: httpx.AsyncClient, videos: list[str]) -> list[tuple[int, int]]:
    """Of each video: frames analysed, sampled frames lost."""
    runs = [(await _state(client, video_id))["runs"][0] for video_id in videos]
    return [(run["frames_analyzed"], run["frames_dropped"]) for run in runs]


async def run() -> dict[str, float]:
    """Frames analysed a second, of all sources and of the slowest; the share that was lost; memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            _peers(folder) as addresses,
            Server(folder) as server,
            server.client() as client,
        ):
            videos = [await _submit(client, address) for address in addresses]
            await _until_all_run(client, videos)
            before, started = await _counts(client, videos), time.perf_counter()
            await asyncio.sleep(_SECONDS)
            after, elapsed = await _counts(client, videos), time.perf_counter() - started
            analysed = [late[0] - early[0] for early, late in zip(before, after, strict=True)]
            lost = sum(late[1] - early[1] for early, late in zip(before, after, strict=True))
            return {
                "sources": len(videos),
                "analysed_per_s": sum(analysed) / elapsed,
                "slowest_source_per_s": min(analysed) / elapsed,
                "lost_share": lost / max(1, lost + sum(analysed)),
                "loop_lag_p99_ms": loop_lag_p99((await client.get("/metrics")).text) * 1000,
                "main_process_mb": server.memory_mb(),
            }


if __name__ == "__main__":
    for key, value in asyncio.run(run()).items():
        print(f"{key:24} {value:10.2f}")
