"""What real publishers send is understood: FFmpeg, both of GStreamer's, enhanced RTMP by PyAV. All pictures arrive."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from monolith.protocols import flv
from monolith.protocols.rtmp.events import (
    AudioMessage,
    Event,
    PublishEnded,
    PublishRequested,
    VideoMessage,
)
from monolith.protocols.rtmp.session import ServerSession
from tests.peers.processes import running
from tests.peers.programs import ffmpeg, program
from tests.videos import Picture, Recipe, make_video, read_barcode

FRAMES = 60
H264 = Recipe(frames=FRAMES, gop=15, b_frames=2)
WAIT = 60.0
DECODERS = {"av1": "libdav1d"}
"""Where FFmpeg's decoder in software has another name than the codec."""

Arguments = Callable[[Path, str], list[str | Path]]


@dataclass
class Recording:
    """What a publisher sent, read by read, and what the session told of it."""

    reads: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def video(self) -> list[flv.Video]:
        return [
            flv.parse_video(event.data, event.timestamp_ms)
            for event in self.events
            if isinstance(event, VideoMessage)
        ]

    @property
    def tags(self) -> bytes:
        """An FLV file of it."""
        messages = (event for event in self.events if isinstance(event, VideoMessage))
        return flv.HEADER + b"".join(flv.video_tag(event.data, event.timestamp_ms) for event in messages)


class Server:
    """Takes one connection on loopback and records it."""

    def __init__(self) -> None:
        self.recorded: asyncio.Future[Recording] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.recorded.set_result(await self._record(reader, writer))
        except Exception as error:
            self.recorded.set_exception(error)
        finally:
            writer.close()

    async def _record(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Recording:
        session, recording = ServerSession(), Recording()
        while data := await self._read(reader):
            recording.reads.append(data)
            events = session.receive(data)
            recording.events += events
            for event in events:
                if isinstance(event, PublishRequested):
                    session.accept_publish(event)
            writer.write(session.data_to_send())
            await writer.drain()
        return recording

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(1 << 16)
        except ConnectionResetError:
            return b""  # librtmp closes without reading the answers to its FCUnpublish


async def record(arguments: Arguments, video: Path) -> Recording:
    """What a program sends that publishes `video`."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    log = video.with_suffix(".log")
    try:
        async with (
            asyncio.timeout(WAIT),
            running(arguments(video, f"rtmp://127.0.0.1:{port}/live/secret"), log) as process,
        ):
            assert await process.wait() == 0, log.read_text()
            return await server.recorded
    finally:
        listener.close()


def by_ffmpeg(video: Path, url: str) -> list[str | Path]:
    return [ffmpeg(), "-v", "error", "-i", video, "-f", "lavfi", "-i", "sine=duration=2.4", "-c:v", "copy",
            "-c:a", "aac", "-f", "flv", "-flvflags", "no_duration_filesize", url]  # fmt: skip


def by_gstreamer(sink: str) -> Arguments:
    def arguments(video: Path, url: str) -> list[str | Path]:
        launch = program("gst-launch-1.0", "gstreamer1.0-tools")
        pipeline = (
            f"filesrc location={video} ! qtdemux ! h264parse ! flvmux streamable=true ! {sink} location={url}"
        )
        return [launch, "-q", *pipeline.split()]

    return arguments


def shown(frame: av.VideoFrame) -> int:
    return read_barcode(cast(Picture, frame.to_ndarray(format="rgb24")))


def decoded(video: Iterable[flv.Video]) -> list[int]:
    """The barcodes of all pictures, as the configuration and the coded frames give them."""
    context: VideoCodecContext | None = None
    packets = []
    for found in video:
        if isinstance(found, flv.VideoConfig):
            created = av.CodecContext.create(DECODERS.get(found.codec, found.codec), "r")
            assert isinstance(created, VideoCodecContext)
            created.extradata = found.extradata
            context = created
        elif found is not None:
            packet = av.Packet(found.data)
            packet.dts, packet.pts = found.dts_ms, found.dts_ms + found.composition_ms
            packet.time_base = Fraction(1, 1000)
            packets.append(packet)
    assert context is not None
    frames = [frame for packet in [*packets, None] for frame in context.decode(packet)]
    return [shown(frame) for frame in frames]


def demuxed(tags: bytes) -> list[int]:
    """The barcodes of all pictures, as FFmpeg reads the tags."""
    with av.open(io.BytesIO(tags), "r", format="flv") as container:
        return [shown(frame) for frame in container.decode(video=0)]


def kinds(events: Iterable[Event]) -> set[type[Event]]:
    return {type(event) for event in events}


PUBLISHERS = {
    "ffmpeg": by_ffmpeg,
    "rtmpsink": by_gstreamer("rtmpsink"),
    "rtmp2sink": by_gstreamer("rtmp2sink"),
}


@pytest.mark.parametrize("publisher", PUBLISHERS)
async def test_every_picture_of_a_real_publisher_arrives(publisher: str, tmp_path: Path) -> None:
    recording = await record(PUBLISHERS[publisher], make_video(tmp_path, H264))
    (request,) = (event for event in recording.events if isinstance(event, PublishRequested))
    assert (request.app, request.stream_key, request.kind) == ("live", "secret", "live")
    assert decoded(recording.video) == list(range(1, FRAMES + 1))
    assert demuxed(recording.tags) == list(range(1, FRAMES + 1))
    assert (
        sum(isinstance(found, flv.VideoFrame) and found.keyframe for found in recording.video) == FRAMES // 15
    )
    assert PublishEnded in kinds(recording.events)
    assert (AudioMessage in kinds(recording.events)) is (publisher == "ffmpeg")


async def test_a_recording_means_the_same_however_it_is_cut(tmp_path: Path) -> None:
    recording = await record(by_ffmpeg, make_video(tmp_path, Recipe(frames=10)))
    data = b"".join(recording.reads)
    for size in (1, 7, 1000, len(data)):
        session = ServerSession()
        events = [
            event for at in range(0, len(data), size) for event in session.receive(data[at : at + size])
        ]
        assert events == recording.events


ENHANCED = {
    "hevc": ("libx265",),
    "av1": ("libaom-av1", "-cpu-used", "8"),
    "vp9": ("libvpx-vp9", "-cpu-used", "8"),
}


def encoded(video: Path, encoder: Sequence[str]) -> Path:
    """The same pictures by another codec."""
    path = video.with_name(f"{encoder[0]}.mp4")
    subprocess.run(
        [ffmpeg(), "-v", "error", "-i", video, "-vsync", "passthrough", "-c:v", *encoder, "-g", "15", path],
        check=True, capture_output=True, timeout=WAIT,
    )  # fmt: skip
    return path


def by_pyav(video: Path, url: str) -> list[str | Path]:
    return [sys.executable, "-m", "tests.peers.rtmp_enhanced", video, url]


@pytest.mark.parametrize(("codec", "encoder"), ENHANCED.items())
async def test_every_picture_of_enhanced_rtmp_arrives(
    codec: str, encoder: Sequence[str], tmp_path: Path
) -> None:
    video = encoded(make_video(tmp_path, H264), encoder)
    recording = await record(by_pyav, video)
    (config,) = (found for found in recording.video if isinstance(found, flv.VideoConfig))
    assert config.codec == codec
    assert decoded(recording.video) == list(range(1, FRAMES + 1))
    assert demuxed(recording.tags) == list(range(1, FRAMES + 1))
