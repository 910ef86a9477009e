"""The clock is set while somebody publishes: forward and back by hours, for the whole program."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_rtmp import endpoint, until
from tests.peers.rtmp import ffmpeg_to
from tests.program import Server, until_ended
from tests.videos import Recipe, make_video

HOUR = 3600
CLIP = Recipe(frames=100, gop=25, width=320, height=240)


_SET_CLOCK = """
import time
from pathlib import Path
right, file = time.time, Path({file!r})
time.time = lambda: right() + float(file.read_text())
time.time_ns = lambda: int(time.time() * 1e9)
"""


class Clock:
    """`time.time` of a program, and of its child processes, that is started with `variables`. `step` sets it to so many
    seconds from the right time; monotonic clocks go on, as they do when a machine's clock is set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.step(0)
        customized = folder / "python"
        customized.mkdir()
        (customized / "sitecustomize.py").write_text(_SET_CLOCK.format(file=str(self._file)))
        self.variables = {"PYTHONPATH": os.pathsep.join([str(customized), os.environ.get("PYTHONPATH", "")])}

    def step(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


async def goes_on(client: httpx.AsyncClient, video_id: str, frames: int) -> None:
    """So many more frames are judged."""
    before = (await client.get(f"/analysis/{video_id}")).json()["frames_analyzed"]
    await until(client, video_id, lambda body: body["frames_analyzed"] >= before + frames)


async def test_live_video_goes_on_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, clock = make_video(tmp_path, CLIP), Clock(tmp_path)
    server = Server(tmp_path, PRECISION="f32", SEGMENT_SECONDS="2", LIVE_SILENCE="60")
    with monkeypatch.context() as only_there:
        for name, value in clock.variables.items():
            only_there.setenv(name, value)
        await server.start()
    try:
        async with server.client() as client:
            video_id, url = await endpoint(client)
            for connection, (before, after) in enumerate([(0, HOUR), (HOUR, -HOUR), (-HOUR, -HOUR)], 1):
                clock.step(before)
                async with ffmpeg_to(url, clip, tmp_path / "log", loop=True) as publisher:
                    await until(client, video_id, lambda body, now=connection: body["connections"] == now)  # type: ignore[misc]
                    await goes_on(client, video_id, 4)
                    clock.step(after)
                    await goes_on(client, video_id, 8)
                    publisher.kill()
                    await publisher.wait()
                await until(client, video_id, lambda body: not body["connected"])
            await client.post(f"/analysis/{video_id}/cancel")
            body = await until_ended(client, video_id)
            assert (body["status"], body["error"], body["connections"]) == ("Completed", None, 3)
            connections = (await client.get(f"/analysis/{video_id}/connections")).json()
            away = [round((one["wall_time"] - time.time()) / HOUR) for one in connections]
            assert away == [0, 1, -1], "each as the clock then was"
            rows = (await client.get(f"/analysis/{video_id}/results")).json()
            times = [row["video_timestamp"] for row in sorted(rows, key=lambda row: row["frame_number"])]
            assert all(later > earlier for earlier, later in itertools.pairwise(times))
    finally:
        assert await server.stop() == 0
    assert "Traceback" not in server.output
