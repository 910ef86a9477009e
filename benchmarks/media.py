"""The clips that the benchmarks run on."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from tests.media import sample_clip


def looped_bikes(folder: Path, loops: int = 6) -> Path:
    """`bikes.mp4` (640×272, 250 frames) repeated `loops` times without encoding anew: 1,500 frames for 6."""
    target = folder / f"bikes-{loops}.mp4"
    with av.open(str(sample_clip("bikes.mp4"))) as source, av.open(str(target), "w") as output:
        stream_in = source.streams.video[0]
        stream_out = output.add_stream_from_template(stream_in)
        length = int(stream_in.duration or 0)
        for loop in range(loops):
            source.seek(0)
            for packet in source.demux(stream_in):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.dts += loop * length
                packet.pts += loop * length
                packet.stream = stream_out
                output.mux(packet)
    return target


def pictures(path: Path) -> list[npt.NDArray[np.uint8]]:
    """All frames of a clip, RGB."""
    with av.open(str(path)) as container:
        return [rgb(frame) for frame in container.decode(video=0)]


def rgb(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Its pixels, height × width × 3."""
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
