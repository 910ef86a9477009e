"""Headless Chromium from Debian, with a camera whose picture is a file: pages are opened and scripts run in them.

Driven by the Chrome DevTools Protocol over its WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.peers.processes import end, running, until

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--disable-extensions",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-default-apps",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
)
_LISTENING = re.compile(r"DevTools listening on ws://([^/]+)/")
_ANSWER_SECONDS = 60.0


def require_chromium() -> str:
    """Its path; the test is skipped where it is not installed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is missing; install with: sudo apt-get install chromium")
    return path


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    async def run(self, script: str) -> Any:
        """The value of `script`, an expression; of its promise, if it is one. Raises RuntimeError with its error."""
        answer = await self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def go(self, url: str) -> None:
        """Leave the page that is shown, as a user would, for `url`."""
        await self._call("Page.navigate", url=url)
        async with asyncio.timeout(_ANSWER_SECONDS):
            while await self.run("document.readyState") != "complete":
                await asyncio.sleep(0.05)

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                message = json.loads(await self._connection.recv())
                if message.get("id") == number:
                    if "error" in message:
                        raise RuntimeError(f"{method}: {message['error']}")
                    return dict(message["result"])


class Chromium:
    """A browser process. `kill` ends it without a word to anyone."""

    def __init__(self, process: asyncio.subprocess.Process, place: str) -> None:
        self._process = process
        self._place = place

    @contextlib.asynccontextmanager
    async def page(self, url: str) -> AsyncIterator[Page]:
        async with httpx.AsyncClient(
            base_url=f"http://{self._place}", verify=False, timeout=_ANSWER_SECONDS
        ) as client:
            made = (await client.put("/json/new?about:blank")).raise_for_status().json()
            async with connect(
                made["webSocketDebuggerUrl"],
                max_size=1 << 26,
                open_timeout=_ANSWER_SECONDS,
                ping_interval=None,
            ) as connection:
                page = Page(connection)
                await page.go(url)
                yield page
                with contextlib.suppress(httpx.HTTPError):
                    await client.get(f"/json/close/{made['id']}")

    async def kill(self) -> None:
        """All of its processes, at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


@contextlib.asynccontextmanager
async def chromium(folder: Path, *, camera: Path | None = None) -> AsyncIterator[Chromium]:
    """`camera`: a file of `camera_file`; otherwise a rolling green picture. `folder`: for its profile and log."""
    path = require_chromium()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "chromium.log"
    flags = [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    if camera is not None:
        flags.append(f"--use-file-for-fake-video-capture={camera}")
    async with running([path, *flags, "about:blank"], log) as process:
        try:

            async def listens() -> bool:
                return _LISTENING.search(log.read_text(errors="replace")) is not None

            await until(listens, "the browser listens", log)
            found = _LISTENING.search(log.read_text(errors="replace"))
            assert found is not None
            yield Chromium(process, found[1])
        finally:
            await end(process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def camera_file(clip: Path, target: Path, frames: int = 60) -> Path:
    """The first `frames` pictures of `clip` as the browser's camera plays them, again and again."""
    with av.open(str(clip)) as container, target.open("wb") as file:
        stream = container.streams.video[0]
        width, height, rate = stream.width, stream.height, stream.average_rate or 25
        file.write(f"YUV4MPEG2 W{width} H{height} F{int(rate)}:1 Ip A1:1 C420mpeg2\n".encode())
        for picture in itertools.islice(container.decode(stream), frames):
            file.write(b"FRAME\n" + picture.reformat(format="yuv420p").to_ndarray().tobytes())
    return target
