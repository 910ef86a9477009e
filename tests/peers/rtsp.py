"""GStreamer's RTSP server as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tests.peers.processes import START_SECONDS, running
from tests.peers.programs import SYSTEM_PYTHON, require_rtsp_server

_SCRIPT = Path(__file__).with_name("rtsp_server.py")


def live_mount(*, rate: int = 25, width: int = 320, height: int = 240, **more: Any) -> dict[str, Any]:
    """A moving test picture that goes on, a keyframe a second."""
    return {
        "launch": f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},"
        f"framerate={rate}/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={rate}"
        " ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
        **more,
    }


def file_mount(video: Path, **more: Any) -> dict[str, Any]:
    """An MP4 file with H.264, at its own speed; the server says goodbye at its end."""
    return {
        "launch": f"( filesrc location={video} ! qtdemux ! h264parse config-interval=-1"
        " ! rtph264pay name=pay0 pt=96 )",
        "shared": False,
        **more,
    }


@contextlib.asynccontextmanager
async def rtsp_server(
    mounts: Mapping[str, Mapping[str, Any]], work: Path, port: int = 0
) -> AsyncIterator[int]:
    """Serve `mounts` by path; yields the port on 127.0.0.1 (`port`; 0: any)."""
    require_rtsp_server()
    arguments: list[str | Path] = [SYSTEM_PYTHON, _SCRIPT, json.dumps({"mounts": dict(mounts), "port": port})]
    work.mkdir(parents=True, exist_ok=True)
    log = work / "rtsp.log"
    async with running(arguments, log, stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        assert line.strip().isdigit(), log.read_text(errors="replace")
        yield int(line)
