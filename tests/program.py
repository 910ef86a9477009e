"""The real program as a process of its own: started, asked over HTTP, killed, started again."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.peers.processes import children_of

ALL_MODELS = ("color_detection", "emotions_detection", "objects_detection")


class Server:
    """`video-analysis serve` on a data directory and a free loopback port. `output` is its log so far.

    `async with` starts it and ends it; `kill` and `start` may come in between. It has one worker if `settings` name no
    other number: each takes a second of a processor to start.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = settings
        self._port = int(settings.get("PORT", 0)) or free_port()
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.variables: Mapping[str, str] = {}
        """Of its environment, from the next start on, besides the settings."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def client(self) -> httpx.AsyncClient:
        return plain_client(base_url=self.url, timeout=60)

    async def start(self, *, wait: bool = True) -> None:
        settings = {
            "DATA_DIR": str(self.folder / "data"), "PORT": str(self._port), "RTMP_PORT": "0", "WORKERS": "1",
            **self._settings,
        }  # fmt: skip
        named = {f"VIDEO_ANALYSIS_{name}": value for name, value in settings.items()}
        environment = {**os.environ, **self.variables, **named}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "monolith", "serve"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            await self.until_ready()

    async def until_ready(self, timeout: float = 120) -> None:
        """Raises TimeoutError with the end of the log."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        async with self.client() as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if (await client.get("/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise TimeoutError(f"the server was not ready:\n{self.output[-3000:]}")

    def children(self) -> dict[int, str]:
        """Its child processes, as far as they have begun: pid → `worker` or `decoder`."""
        found: dict[int, str] = {}
        for pid, command in children_of(self.pid).items():
            kind = re.match(r"\S+ -m monolith\.(?:inference\.(worker)|ingest\.(decoder)) ", command)
            if kind:
                found[pid] = kind[1] or kind[2]
        return found

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def ended(self, timeout: float = 120) -> int:
        """The exit status, when it has ended by itself. Raises TimeoutExpired."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, timeout)

    async def stop(self, timeout: float = 90) -> int:
        """SIGTERM; the exit status. Raises TimeoutExpired after a SIGKILL."""
        assert self._process is not None
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, timeout)
        finally:
            await self.kill()

    async def __aenter__(self) -> Server:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    def memory_mb(self) -> float:
        """Resident memory of the main process, shared frame slots left out."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE))
        return (int(fields["VmRSS"]) - int(fields.get("RssShmem", 0))) / 1024


def plain_client(**options: Any) -> httpx.AsyncClient:
    """For addresses with http: alone. It reads no certificates, which takes longer than most requests."""
    return httpx.AsyncClient(verify=False, **options)


def free_port() -> int:
    """One that is free now, and that the system gives to nobody who asks for any: it may be used later, and again."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


_PORTS = range(12_000, 32_000)
"""Below those that Linux takes for connections and for sockets of any port."""


async def upload(
    client: httpx.AsyncClient,
    clip: Path,
    *,
    frame_step: int = 1,
    models: tuple[str, ...] = ALL_MODELS,
    key: str | None = None,
) -> str:
    """Submit `clip`; its video_id."""
    with clip.open("rb") as file:
        answer = await client.post(
            "/analysis/upload",
            files={"file": (clip.name, file, "video/mp4")},
            data={"modelsToRun": ",".join(models), "frameStep": str(frame_step)},
            headers={"Idempotency-Key": key} if key else {},
        )
    answer.raise_for_status()
    return str(answer.json()["video_id"])


async def until_ended(client: httpx.AsyncClient, video_id: str, timeout: float = 120) -> dict[str, Any]:
    """The video's status document once it is Completed or Failed. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            body: dict[str, Any] = (await client.get(f"/analysis/{video_id}")).raise_for_status().json()
            if body["status"] in ("Completed", "Failed"):
                return body
            await asyncio.sleep(0.1)


async def result_rows(client: httpx.AsyncClient, video_id: str) -> list[tuple[Any, ...]]:
    """All results, without what must differ between two runs (ids, times, addresses), in order."""
    answer = (
        await client.get(f"/analysis/{video_id}/results", params={"min_confidence": 0})
    ).raise_for_status()
    rows = [
        (row["frame_number"], row["video_timestamp"], row["inference_model"], row["inference_results"])
        for row in answer.json()
    ]
    return sorted(rows, key=lambda row: (row[0], row[2]))


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """A server for many tests, outside of any event loop. It ends in order and has lost no exception."""
    server = Server(folder, **settings)
    asyncio.run(server.start())
    yield server
    assert asyncio.run(server.stop()) == 0
    _, lost, rest = server.output.partition("Traceback")
    assert not lost, rest[:4000]
