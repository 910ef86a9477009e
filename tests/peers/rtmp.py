"""Programs that publish by RTMP: FFmpeg, GStreamer's two sinks, and PyAV, which speaks enhanced RTMP."""

from __future__ import annotations

import subprocess
import time
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import av
from av.video.stream import VideoStream

from tests.peers.processes import running
from tests.peers.programs import ffmpeg, gst_launch


def ffmpeg_to(
    url: str, clip: Path, log: Path, *, loop: bool = False, sound: bool = False
) -> AbstractAsyncContextManager[Process]:
    """FFmpeg publishes the packets of `clip` as fast as they play; `loop`: again and again."""
    again = ["-stream_loop", "-1"] if loop else []
    silence = ["-f", "lavfi", "-i", "anullsrc", "-shortest", "-c:a", "aac"] if sound else []
    return running(
        [
            ffmpeg(), "-hide_banner", "-loglevel", "warning", "-re", *again, "-i", clip, *silence,
            "-map", "0:v", *(["-map", "1:a"] if sound else []), "-c:v", "copy", "-f", "flv", url,
        ],
        log,
    )  # fmt: skip


def gstreamer_to(sink: str, url: str, clip: Path, log: Path) -> AbstractAsyncContextManager[Process]:
    """`sink`: rtmpsink (librtmp), or rtmp2sink (GStreamer's own)."""
    pipeline = (
        f"filesrc location={clip} ! qtdemux ! h264parse ! flvmux streamable=true ! {sink} location={url}"
    )
    return running([gst_launch(), "-q", *pipeline.split()], log)


def publish_enhanced(url: str, clip: Path) -> None:
    """PyAV publishes the packets of `clip` as fast as they play; HEVC, AV1 and VP9 by enhanced RTMP. Blocks."""
    with av.open(str(clip)) as source, av.open(url, "w", format="flv") as target:
        read = source.streams.video[0]
        assert isinstance(read, VideoStream)
        written = target.add_stream_from_template(read, opaque=True)  # without its decoder's name
        started = time.monotonic()
        for packet in source.demux(read):
            if packet.dts is not None and packet.time_base:
                time.sleep(max(0.0, started + float(packet.dts * packet.time_base) - time.monotonic()))
                packet.stream = written
                target.mux(packet)


def refused_by(url: str, clip: Path) -> str:
    """FFmpeg's words where it may not publish; AssertionError where it may."""
    done = subprocess.run(
        [ffmpeg(), "-hide_banner", "-loglevel", "info", "-re", "-i", clip, "-c", "copy", "-f", "flv", url],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=90, text=True,
    )  # fmt: skip
    assert done.returncode != 0, done.stderr
    return done.stderr
