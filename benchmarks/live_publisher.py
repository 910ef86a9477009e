"""A camera for the benchmarks, in a process of its own: it makes pictures in time, encodes them without delay,
publishes them by RTMP or WHIP, and knows when it took each of them.

`python -m benchmarks.live_publisher WORK`: `WORK` is a `Publication` in JSON. It goes on until its standard input ends,
then says when each picture was taken: a line of JSON, milliseconds of Unix time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import av
import msgspec
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from benchmarks.live_media import HEIGHT, NUMBERS, RATE, WIDTH, plates, street
from tests.peers.processes import end
from tests.peers.whip import muxer_options

Way: TypeAlias = Literal["rtmp", "whip"]

_MOST_MS: Final = 4000
"""A picture that comes later than that would be taken for the one that shows its number next time."""
_LATE_SECONDS: Final = 10.0


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What is published, and how. `clip`: packets of this file, as fast as they play, again and again, instead of
    pictures that are encoded; `folder`: for a certificate (WHIP)."""

    way: Way
    url: str
    token: str = ""
    folder: str = ""
    pictures: Literal["street", "plates"] = "street"
    clip: str | None = None


def publication(
    way: Way,
    endpoint: Mapping[str, str],
    folder: Path,
    *,
    pictures: Literal["street", "plates"] = "street",
    clip: Path | None = None,
) -> Publication:
    """To an endpoint that the program has made (its answer); `folder`, `pictures`, `clip`: as in `Publication`."""
    return Publication(
        way=way,
        url=endpoint[f"{way}_endpoint"],
        token=endpoint.get("token", ""),
        folder=str(folder),
        pictures=pictures,
        clip=None if clip is None else str(clip),
    )


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
        try:
            yield taken
        finally:  # what it says explains why nothing came of it
            taken.update(await _ended(process))
    finally:
        await end(process)


async def _ended(process: asyncio.subprocess.Process) -> dict[int, float]:
    """Raises RuntimeError, TimeoutError."""
    async with asyncio.timeout(_LATE_SECONDS):
        said, errors = await process.communicate(b"")  # closes its input
    if process.returncode:
        raise RuntimeError(f"the publisher failed:\n{errors.decode(errors='replace')[-3000:]}")
    return dict(enumerate(msgspec.json.decode(said, type=list[float])))


def nearest(taken: dict[int, float], number: int, moment: float) -> float | None:
    """When the picture was taken that shows `number` at `moment`, in milliseconds; numbers come again."""
    times = [at for index, at in taken.items() if index % NUMBERS == number and 0 <= moment - at <= _MOST_MS]
    return max(times, default=None)


def main(work: Publication) -> list[float]:
    stop = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()
    if work.clip is None:
        return _film(work, stop)
    _pass_on(work, work.clip, stop)
    return []


def _wait_for_the_end(stop: threading.Event) -> None:
    os.read(0, 1)
    stop.set()


def _begun(
    work: Publication, add: Callable[[OutputContainer], VideoStream]
) -> tuple[OutputContainer, VideoStream]:
    """The publication with the stream that `add` has added, once the program takes it."""
    target = _opened(work)
    stream = add(target)
    target.start_encoding()
    return target, stream


def _opened(work: Publication) -> OutputContainer:
    if work.way == "whip":
        options = muxer_options(work.token, Path(work.folder))
        return av.open(work.url, "w", format="whip", options=options)
    return av.open(work.url, "w", format="flv", options={"flush_packets": "1"})


def _film(work: Publication, stop: threading.Event) -> list[float]:
    """When each picture was taken: when it went to the encoder. How long it takes to paint it counts for nothing."""
    target, stream = _begun(work, partial(_add_encoder, baseline=work.way == "whip"))
    taken: list[float] = []
    with target:
        started = time.monotonic()
        for number, picture in enumerate(street() if work.pictures == "street" else plates()):
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            time.sleep(max(0.0, started + number / RATE - time.monotonic()))
            if stop.is_set():
                break
            taken.append(time.time() * 1000)
            target.mux(stream.encode(picture))
    return taken


def _add_encoder(target: OutputContainer, *, baseline: bool) -> VideoStream:
    """As OBS is set for little delay: x264 `veryfast`, `zerolatency`, no B-frames, a keyframe a second."""
    options = {"preset": "veryfast", "tune": "zerolatency", "g": str(RATE), "bf": "0", "b": "4M"}
    if baseline:
        options["profile"] = "baseline"
    stream = target.add_stream("libx264", rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    return stream


def _pass_on(work: Publication, clip: str, stop: threading.Event) -> None:
    with av.open(clip) as source:
        pictures = source.streams.video[0]
        target, stream = _begun(work, lambda target: target.add_stream_from_template(pictures))
        step = Fraction(1, RATE) / (pictures.time_base or Fraction(1, RATE))
        with target:
            started = time.monotonic()
            for number, packet in enumerate(_endless(source, pictures)):
                time.sleep(max(0.0, started + number / RATE - time.monotonic()))
                if stop.is_set():
                    return
                target.mux(_moved(packet, stream, number, step))


def _endless(source: InputContainer, pictures: VideoStream) -> Iterator[Packet[Any]]:
    while True:
        source.seek(0)
        yield from (packet for packet in source.demux(pictures) if packet.dts is not None)


def _moved(packet: Packet[Any], stream: VideoStream, number: int, step: Fraction) -> Packet[Any]:
    """As the packet with that number, of those without B-frames."""
    packet.stream = stream
    packet.pts = packet.dts = int(number * step)
    return packet


if __name__ == "__main__":
    moments = main(msgspec.json.decode(sys.argv[1], type=Publication))
    print(msgspec.json.encode(moments).decode(), flush=True)
