"""RTMP bytes → video messages on one core, without sockets: 720p30 at 4 Mb/s, as publishers cut it, in reads of 64 KiB.

Figures are megabits of the connection's bytes a second. `mixed`: two messages whose chunks of 128 bytes take turns,
which no publisher does. `bare` is the limit: the same bytes copied twice, out of the read and into a message.
"""

from __future__ import annotations

import random
import time

from monolith.protocols.rtmp.events import PublishRequested, VideoMessage
from monolith.protocols.rtmp.session import ServerSession
from tests.peers.rtmp_publisher import VIDEO, RtmpPublisher, basic_header, chunk_header

_READ = 64 << 10
_FRAMES = 1800
_GOP = 60
_MIXED = 200
_ROUNDS = 5


def recording(chunk_size: int, *, audio: bool) -> tuple[bytes, int]:
    """A minute of 30 frames/s and 4 Mb/s, with 43 audio messages a second between them where wanted; and how many
    frames it has."""
    chance = random.Random(1)
    publisher = RtmpPublisher()
    parts = [publisher.begin(), publisher.set_chunk_size(chunk_size)]
    for number in range(_FRAMES):
        size = 80_000 if number % _GOP == 0 else 15_600
        kind = 0 if number == 0 else 1
        step = 33 + (number % 3 == 0)
        parts.append(publisher.video(b"\x27\x01" + chance.randbytes(size), step * bool(number), kind=kind))
        if audio:
            parts.append(publisher.audio(chance.randbytes(360), step * bool(number), kind=kind))
    return b"".join(parts), _FRAMES


def mixed() -> tuple[bytes, int]:
    """Pairs of video messages on two chunk streams, chunk by chunk."""
    chance = random.Random(1)
    publisher = RtmpPublisher()
    parts = [publisher.begin()]
    for number in range(_MIXED):
        payload = b"\x27\x01" + chance.randbytes(16_126)
        chunks = [payload[at : at + 128] for at in range(0, len(payload), 128)]
        for chunk_id in (6, 7):
            head = chunk_header(0, chunk_id, time=33 * number, size=len(payload), type_id=VIDEO, stream_id=1)
            parts.append(head + chunks[0])
        parts += [basic_header(3, chunk_id) + chunk for chunk in chunks[1:] for chunk_id in (6, 7)]
    return b"".join(parts), 2 * _MIXED


def _parse(reads: list[bytes]) -> int:
    session, frames = ServerSession(), 0
    for data in reads:
        events = session.receive(data)
        while session.more:
            events += session.receive(b"")
        for event in events:
            if isinstance(event, PublishRequested):
                session.accept_publish(event)
        frames += sum(isinstance(event, VideoMessage) for event in events)
        session.data_to_send()
    return frames


def _megabits_per_second(size: int, seconds: list[float]) -> float:
    return size * 8 / min(seconds) / 1e6


def _measured(reads: list[bytes], frames: int) -> list[float]:
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        found = _parse(reads)
        seconds.append(time.perf_counter() - started)
        assert found == frames
    return seconds


def _bare(reads: list[bytes]) -> list[float]:
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for data in reads:
            bytes(memoryview(bytes(memoryview(data))))
        seconds.append(time.perf_counter() - started)
    return seconds


async def run() -> dict[str, float]:
    recordings = {
        "chunks_4096": recording(4096, audio=False),
        "chunks_4096_with_audio": recording(4096, audio=True),
        "chunks_128": recording(128, audio=False),
        "chunks_128_with_audio": recording(128, audio=True),
        "mixed_128": mixed(),
    }
    figures = {}
    for name, (data, frames) in recordings.items():
        reads = [data[at : at + _READ] for at in range(0, len(data), _READ)]
        figures[f"{name}_mbit_per_s"] = _megabits_per_second(len(data), _measured(reads, frames))
        figures.setdefault("bare_mbit_per_s", _megabits_per_second(len(data), _bare(reads)))
    return figures


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(run()))
