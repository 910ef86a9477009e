"""How fast `/results` comes over loopback from an API process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry

from benchmarks.read_models import project, recorded, video_events
from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from monolith.api.app import create_app
from monolith.api.server import ApiServer
from monolith.api.services import ApiServices
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.video_stream import VideoStreams
from monolith.domain.detection import Detection
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.ids import new_id
from monolith.readmodels.queries import ReadModels
from monolith.secret_urls import SecretUrls
from monolith.storage import FrameGoneError

REPEATS: Final = 9


class _Gate:
    async def wait_for(self, commit_position: int, timeout: float) -> None:
        raise TimeoutError("nothing is written here")


def _no_picture(video_id: str, pack: str, offset: int, length: int) -> bytes:
    raise FrameGoneError(pack)


def _plain(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    return jpeg


async def _serve(folder: Path, rows: int, link: Connection) -> None:
    codec, store, video_id = EventCodec(DOMAIN_EVENTS), MemoryEventStore(), new_id()
    models = await ReadModels.open(folder / "read.db", codec)
    await project(models, recorded(video_events(video_id, new_id(), rows)))
    options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
    streams = VideoStreams(store, codec)
    services = ApiServices(
        handlers=VideoHandlers(streams, store, _Gate(), SecretUrls(folder), options, time.time),
        read_models=models, store=store, decoder=codec, read_frame=_no_picture, annotate=_plain,
        uploads=folder, registry=CollectorRegistry(),
    )  # fmt: skip
    server = await ApiServer.start(create_app(services), stopping=services.stopping, port=0)
    link.send((server.port, video_id))
    await asyncio.to_thread(link.recv)
    await server.stop()
    await models.close()


def _server_process(folder: Path, rows: int, link: Connection) -> None:
    uvloop.run(_serve(folder, rows, link))


def _ask(port: int, path: str) -> tuple[float, float, int, int]:
    """Milliseconds to the first byte of the body and to its end, bytes, rows."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    buffer = bytearray(1 << 20)
    pieces: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        start = time.perf_counter()
        connection.sendall(request)
        first = 0.0
        while count := connection.recv_into(buffer):
            pieces.append(bytes(buffer[:count]))
            if not first and b"[{" in pieces[-1]:
                first = time.perf_counter() - start
        whole = time.perf_counter() - start
    body = b"".join(pieces)
    assert body.startswith(b"HTTP/1.1 200") and body.endswith(b"0\r\n\r\n")
    return first * 1000, whole * 1000, len(body), body.count(b'"frame_number"')


async def run() -> dict[str, float]:
    """Medians in milliseconds for 100,000 rows of one detection each; `filtered`: with a label and a confidence."""
    return await asyncio.to_thread(_measure, 100_000)


def _measure(rows: int) -> dict[str, float]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_server_process, args=(Path(folder), rows, theirs)
        )
        process.start()
        port, video_id = ours.recv()
        path = f"/analysis/{video_id}/results"
        plain = [_ask(port, path) for _ in range(REPEATS)]
        filtered = [_ask(port, f"{path}?label=car&min_confidence=0.5") for _ in range(REPEATS)]
        ours.send("stop")
        process.join(30)
    return {
        "first_byte_ms": statistics.median(run[0] for run in plain),
        "whole_ms": statistics.median(run[1] for run in plain),
        "megabytes": plain[0][2] / 1e6,
        "filtered_whole_ms": statistics.median(run[1] for run in filtered),
    }


if __name__ == "__main__":
    print(asyncio.run(run()))
