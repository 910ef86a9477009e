"""OBS Studio from Debian, without a screen: it publishes a red picture of 640×360."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.processes import end, running

_GLOBAL = """
[General]
FirstRun=true
EnableAutoUpdates=false
[Basic]
Profile=Test
ProfileDir=Test
SceneCollection=Test
SceneCollectionFile=Test
"""
_PROFILE = """
[General]
Name=Test
[Output]
Mode=Simple
[SimpleOutput]
VBitrate=1500
StreamEncoder=x264
Preset=ultrafast
[Video]
BaseCX=640
BaseCY=360
OutputCX=640
OutputCY=360
FPSCommon=30
"""
_RED = 0xFF0000FF


@contextlib.asynccontextmanager
async def obs_to(server: str, key: str, folder: Path) -> AsyncIterator[Process]:
    """It publishes to `server` with the stream key `key` until it is ended, which it takes for a crash."""
    missing = [name for name in ("obs", "xvfb-run") if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"{missing} missing; install with: sudo apt-get install obs-studio obs-plugins xvfb xauth"
        )
    home = folder / "home"
    _configure(home / ".config" / "obs-studio", server, key)
    variables = {"HOME": home, "XDG_CONFIG_HOME": home / ".config", "XDG_RUNTIME_DIR": home}
    arguments = [
        "env", *(f"{name}={value}" for name, value in variables.items()), "LIBGL_ALWAYS_SOFTWARE=1",
        "xvfb-run", "-a", "-s", "-screen 0 1280x720x24 +extension GLX",
        "obs", "--startstreaming", "--profile", "Test", "--collection", "Test", "--multi", "--minimize-to-tray",
    ]  # fmt: skip
    async with running(arguments, folder / "obs.log") as process:
        try:
            yield process
        finally:
            await end(process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _configure(folder: Path, server: str, key: str) -> None:
    profile, scenes = folder / "basic" / "profiles" / "Test", folder / "basic" / "scenes"
    for one in (profile, scenes):
        one.mkdir(parents=True)
    (folder / "global.ini").write_text(_GLOBAL)
    (profile / "basic.ini").write_text(_PROFILE)
    service = {"type": "rtmp_custom", "settings": {"server": server, "key": key, "use_auth": False}}
    (profile / "service.json").write_text(json.dumps(service))
    (scenes / "Test.json").write_text(json.dumps(_scenes()))


def _scenes() -> dict[str, object]:
    item = {"name": "Red", "id": 1, "visible": True, "pos": {"x": 0, "y": 0}, "scale": {"x": 1, "y": 1}}
    scene = {"id": "scene", "name": "Scene", "settings": {"items": [item], "id_counter": 1}}
    colour = {"color": _RED, "width": 640, "height": 360}
    red = {"id": "color_source", "versioned_id": "color_source_v3", "name": "Red", "settings": colour}
    return {
        "name": "Test", "current_scene": "Scene", "current_program_scene": "Scene",
        "scene_order": [{"name": "Scene"}], "sources": [scene, red],
    }  # fmt: skip
