"""One transport stream, as a file and as it arrives over HTTP: the same pictures, numbers and timestamps."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from monolith.domain.segment import StoredFrame
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from tests.integration.decoding import probe, run, segment_request
from tests.integration.followed import access_to, follow, follow_request
from tests.peers.programs import ffmpeg
from tests.peers.scripted_http import answering, serving, whole
from tests.transport_streams import packets, pat, pictures, pmt
from tests.videos import Recipe, make_video

FRAMES = 30


def clip(folder: Path, start: float, codec: str = "libx264", pid: int = 0x100) -> bytes:
    """A transport stream by ffmpeg with B-frames, whose first packet is at `start` seconds or a little later."""
    source = make_video(folder, Recipe(".mkv", codec, frames=FRAMES, b_frames=2 * (codec != "mpeg2video")))
    target = folder / "clip.ts"
    subprocess.run(
        [ffmpeg(), "-v", "error", "-y", "-i", source, "-c", "copy", "-output_ts_offset", str(start),
         "-streamid", f"0:{pid}", "-muxdelay", "0", "-muxpreload", "0", target],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return target.read_bytes()


Told = tuple[list[tuple[int, float]], dict[int, int]]


def told(frames: list[StoredFrame], shown: dict[int, int]) -> Told:
    return [(frame.frame_number, frame.timestamp) for frame in frames], shown


async def from_file(pool: DecoderPool, slots: FrameSlots, path: Path) -> Told:
    """By segments of half a second, the last one backwards in the file."""
    info = await probe(pool, path)
    assert not info.indexed and len(info.segments) > 1
    outcomes = [await run(pool, slots, segment_request(path, info, plan)) for plan in info.segments]
    again = await run(pool, slots, segment_request(path, info, info.segments[0]))
    assert told(again.frames, again.shown) == told(outcomes[0].frames, outcomes[0].shown)
    assert all(outcome.done is not None and outcome.done.warnings == () for outcome in outcomes)
    frames = [frame for outcome in outcomes for frame in outcome.frames]
    return told(frames, {n: what for outcome in outcomes for n, what in outcome.shown.items()})


async def over_http(pool: DecoderPool, slots: FrameSlots, data: bytes, folder: Path) -> Told:
    async with serving(answering(whole(data))) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), folder, segment_seconds=0.5)
        story = await follow(pool, slots, request, folder)
    assert story.done is not None and story.done.end_of_source and story.done.warnings == ()
    return told(story.frames, story.shown)


async def both(pool: DecoderPool, slots: FrameSlots, data: bytes, folder: Path) -> list[float]:
    """Timestamps, after it was seen that they and the pictures are the same in both ways."""
    path = folder / "whole.ts"
    path.write_bytes(data)
    file = await from_file(pool, slots, path)
    assert file == await over_http(pool, slots, data, folder)
    rows, shown = file
    count = len(rows)
    assert shown == {n: (n - 1) % FRAMES + 1 for n in range(1, count + 1)} and count % FRAMES == 0
    return [timestamp for _, timestamp in rows]


def steps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_a_start_that_is_not_zero_is_kept(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    times = await both(pool, slots, clip(tmp_path, 500.0), tmp_path)
    assert len(times) == FRAMES and times[0] == pytest.approx(500.0, abs=0.2)
    assert steps(times) == pytest.approx([0.04] * (FRAMES - 1), abs=1e-3)


@pytest.mark.parametrize("second", [500.0, 3.0, 90_000.0], ids=["again", "back", "ahead"])
async def test_a_break_is_closed(pool: DecoderPool, slots: FrameSlots, tmp_path: Path, second: float) -> None:
    data = clip(tmp_path, 500.0) + clip(tmp_path, second)
    times = await both(pool, slots, data, tmp_path)
    assert len(times) == 2 * FRAMES and times[0] == pytest.approx(500.0, abs=0.2)
    assert steps(times) == pytest.approx([0.04] * (2 * FRAMES - 1), abs=1e-3)


@pytest.mark.parametrize("start", [26.0, 95_435.0], ids=["ahead", "over the overflow of 33 bits"])
async def test_a_gap_of_seconds_is_kept(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, start: float
) -> None:
    data = clip(tmp_path, start) + clip(tmp_path, start + 20)
    times = await both(pool, slots, data, tmp_path)
    assert times[FRAMES] - times[0] == pytest.approx(20.0, abs=1e-3)


@pytest.mark.parametrize(
    ("codec", "pid"), [("libx265", 0x100), ("mpeg2video", 0x100), ("mpeg2video", 0x300), ("libx264", 0x300)]
)
async def test_another_codec_or_pid_is_decoded_too(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, codec: str, pid: int
) -> None:
    data = clip(tmp_path, 500.0) + clip(tmp_path, 504.0, codec, pid) + clip(tmp_path, 506.0)
    times = await both(pool, slots, data, tmp_path)
    assert len(times) == 3 * FRAMES
    assert times[FRAMES] - times[0] == pytest.approx(4.0, abs=0.2)
    assert times[2 * FRAMES] - times[0] == pytest.approx(6.0, abs=0.2)


async def test_what_follows_and_cannot_be_decoded_is_a_failure(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    data = clip(tmp_path, 0.0) + packets(0, pat({1: 0x1000})) + packets(0x1000, pmt((0x100, 0x42)))
    path = tmp_path / "whole.ts"
    path.write_bytes(data + pictures(0x100, 250))
    info = await probe(pool, path)
    assert "1 packets could not be read: the video stream does not say" in info.warnings[-1]
    with pytest.raises(SourceError, match="does not say how large its pictures are"):
        await run(pool, slots, segment_request(path, info))
    with pytest.raises(SourceError, match="does not say how large its pictures are"):
        await over_http(pool, slots, path.read_bytes(), tmp_path)
