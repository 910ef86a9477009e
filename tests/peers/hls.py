"""HLS made by Debian's ffmpeg: of a file with an end, or live."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.peers.processes import running, until
from tests.peers.programs import ffmpeg


def make_hls(
    video: Path, folder: Path, name: str = "index", *, seconds: float = 1.0, options: Sequence[str] = ()
) -> Path:
    """The playlist `name`.m3u8 of `video` in segments of about `seconds`, cut at its keyframes, not encoded anew."""
    folder.mkdir(parents=True, exist_ok=True)
    playlist = folder / f"{name}.m3u8"
    subprocess.run(
        [ffmpeg(), "-v", "error", "-i", video, "-an", "-c:v", "copy", "-f", "hls", "-hls_time", str(seconds),
         "-hls_playlist_type", "vod", "-hls_segment_filename", folder / f"{name}-%03d.ts", *options, playlist],
        check=True, capture_output=True, cwd=folder, timeout=60,
    )  # fmt: skip
    return playlist


@contextlib.asynccontextmanager
async def live_hls(
    folder: Path,
    work: Path,
    *,
    rate: int = 25,
    seconds: float = 1.0,
    size: str = "320x240",
    keep: int = 4,
    of: Path | None = None,
) -> AsyncIterator[Path]:
    """A live playlist of a moving test picture, or of the video `of` again and again: `rate` pictures a second in
    segments of `seconds`, of which the newest `keep` stay. Yields it when it has its first segments; at the end ffmpeg
    is ended, which ends the playlist, too."""
    folder.mkdir(parents=True, exist_ok=True)
    playlist, log = folder / "live.m3u8", work / "ffmpeg.log"
    shown = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}"]
    arguments: list[str | Path] = [
        ffmpeg(), "-v", "error", "-re", *(["-stream_loop", "-1", "-i", of] if of else shown),
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(max(1, round(rate * seconds))),
        "-pix_fmt", "yuv420p", "-f", "hls", "-hls_time", str(seconds), "-hls_list_size", str(keep),
        "-hls_flags", "delete_segments", "-hls_segment_filename", folder / "live-%05d.ts", playlist,
    ]  # fmt: skip
    async with running(arguments, log):

        async def is_there() -> bool:
            return playlist.exists() and playlist.read_text().count("#EXTINF") >= 2

        await until(is_there, "the live playlist is there", log)
        yield playlist
