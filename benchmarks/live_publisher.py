"""A camera for the benchmarks, in a process of its own: it makes pictures in time, encodes them without delay,
publishes them by RTMP or WHIP, and knows when it took each of them.

`python -m benchmarks.live_publisher WORK`: `WORK` is a `Publication` in JSON. It goes on until its standard input ends,
then says when each picture was taken: a line of JSON, milliseconds of Unix time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import msgspec
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from benchmarks.live_media import HEIGHT, NUMBERS, RATE, WIDTH, plates, street
from tests.peers.processes import end
from tests.peers.whip import muxer_options

_MOST_MS: Final = 4000
"""A picture that comes later than that would be taken for the one that shows its number next time."""
_LATE_SECONDS: Final = 10.0


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What is published, and how. `clip`: packets of this file, as fast as they play, again and again, instead of
    pictures that are encoded; `folder`: for a certificate (WHIP)."""

    way: Literal["rtmp", "whip"]
    url: str
    token: str = ""
    folder: str = ""
    pictures: Literal["street", "plates"] = "street"
    clip: str | None = None


@asynccontextmanager
async def publishing(work: Publication) -> AsyncIterator[dict[int, float]]:
    """While this lasts, it is published; afterwards the dictionary holds when each picture was taken, by its number
    from 0. Raises RuntimeError with its words where the publisher fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.live_publisher", msgspec.json.encode(work),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    taken: dict[int, float] = {}
    try:
        yield taken
        async with asyncio.timeout(_LATE_SECONDS):
            said, errors = await process.communicate(b"")  # closes its input
        if process.returncode:
            raise RuntimeError(f"the publisher failed:\n{errors.decode(errors='replace')[-3000:]}")
        taken.update(enumerate(msgspec.json.decode(said, type=list[float])))
    finally:
        await end(process)


def nearest(taken: dict[int, float], number: int, moment: float) -> float | None:
    """When the picture was taken that shows `number` at `moment`, in milliseconds; numbers come again."""
    times = [at for index, at in taken.items() if index % NUMBERS == number and 0 <= moment - at <= _MOST_MS]
    return max(times, default=None)


def main(work: Publication) -> list[float]:
    stop = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()
    with _opened(work) as target:
        return _pass_on(target, work.clip, stop) if work.clip else _film(target, work, stop)


def _wait_for_the_end(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def _opened(work: Publication) -> OutputContainer:
    if work.way == "whip":
        options = muxer_options(work.token, Path(work.folder))
        return av.open(work.url, "w", format="whip", options=options)
    return av.open(work.url, "w", format="flv", options={"flush_packets": "1"})


def _film(target: OutputContainer, work: Publication, stop: threading.Event) -> list[float]:
    """A picture is taken when it goes to the encoder: how long it takes to paint it counts for nothing."""
    stream = _encoder(target, baseline=work.way == "whip")
    taken: list[float] = []
    started = time.monotonic()
    for picture in street() if work.pictures == "street" else plates():
        number = len(taken)
        picture.pts, picture.time_base = number, Fraction(1, RATE)
        time.sleep(max(0.0, started + number / RATE - time.monotonic()))
        if stop.is_set():
            break
        taken.append(time.time() * 1000)
        target.mux(stream.encode(picture))
    return taken


def _encoder(target: OutputContainer, *, baseline: bool) -> VideoStream:
    """As OBS is set for little delay: x264 `veryfast`, `zerolatency`, no B-frames, a keyframe a second."""
    options = {"preset": "veryfast", "tune": "zerolatency", "g": str(RATE), "bf": "0", "b": "4M"}
    if baseline:
        options["profile"] = "baseline"
    stream = target.add_stream("libx264", rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    return stream


def _pass_on(target: OutputContainer, clip: str, stop: threading.Event) -> list[float]:
    with av.open(clip) as source:
        pictures = source.streams.video[0]
        stream = target.add_stream_from_template(pictures)
        step = Fraction(1, RATE) / (pictures.time_base or Fraction(1, RATE))
        started, number = time.monotonic(), 0
        while True:
            source.seek(0)
            for packet in source.demux(pictures):
                if packet.dts is None:
                    continue
                time.sleep(max(0.0, started + number / RATE - time.monotonic()))
                if stop.is_set():
                    return []
                target.mux(_moved(packet, stream, number, step))
                number += 1


def _moved(packet: Packet[Any], stream: VideoStream, number: int, step: Fraction) -> Packet[Any]:
    """As the packet with that number, of those without B-frames."""
    packet.stream = stream
    packet.pts = packet.dts = int(number * step)
    return packet


if __name__ == "__main__":
    moments = main(msgspec.json.decode(sys.argv[1], type=Publication))
    print(msgspec.json.encode(moments).decode(), flush=True)
