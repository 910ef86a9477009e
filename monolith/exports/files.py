"""Finished annotated videos on the disk, and room for them.

DATA_DIR/ (or SHARED_DIR, which other copies of the program use at the same time)
├── annotating/                     files in the making: NAME.mp4.part; what a crash left goes at the start
└── videos/VIDEO_ID/annotated/
    ├── OPTIONS-VERSION.mp4         digests of the options and of what it shows
    └── OPTIONS-VERSION.json        what is known of it; without it the video does not count
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from monolith.exports.errors import FramesExpiredError, NoRoomError, VideoGoneError
from monolith.frames.pack import sync_folder

_KEPT_OF_OPTIONS: Final = 2
"""Versions of the same options that are kept: someone may be watching the one before."""
_ABANDONED_SECONDS: Final = 3600.0
"""What nobody has written to for so long is not in the making at another copy."""

logger = logging.getLogger(__name__)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A finished file. `complete`: no result was still to come; `start_time`: seconds of the video at its beginning;
    `duration`: seconds; `made_at`: seconds since 1970."""

    options: str
    version: str
    frames: int
    complete: bool
    start_time: float
    duration: float
    codec: str
    size_bytes: int
    made_at: float


class ReadyFile(msgspec.Struct, frozen=True):
    """A finished file that is there."""

    path: Path
    made: Made


class AnnotatedFiles:
    """Methods block (they are for threads) and raise OSError."""

    def __init__(
        self,
        folder: Path,
        folder_of: Callable[[str], Path],
        *,
        most_bytes: int,
        room_bytes: Callable[[], int],
        shared: bool = False,
    ) -> None:
        """`folder`: where all lies, parts too: a finished one is renamed; `folder_of`: where the files of a video lie;
        `room_bytes`: what may still be written, below 0: too little is free; `shared`: others make files there, too."""
        self._videos = folder / "videos"
        self._parts = folder / "annotating"
        self._mine = uuid4().hex[:8]
        self._shared = shared
        self._folder_of = folder_of
        self._room_bytes = room_bytes
        self.most_bytes = most_bytes

    def sweep(self) -> None:
        """Remove what a crash left behind."""
        self._parts.mkdir(parents=True, exist_ok=True)
        for part in self._parts.iterdir():
            self._remove_left(part)
        for path in self._videos.glob("*/annotated/*"):
            if not (path.with_suffix(".mp4").exists() and path.with_suffix(".json").exists()):
                self._remove_left(path)

    def _remove_left(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not self._shared or time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()

    def part_path(self, video_id: str, options: str, version: str) -> Path:
        return self._parts / f"{video_id}-{options}-{version}-{self._mine}.mp4.part"

    def find(self, video_id: str, options: str) -> list[ReadyFile]:
        """The files made with these options, the newest first."""
        found = (_read(path) for path in self._folder_of(video_id).glob(f"{options}-*.json"))
        return sorted((file for file in found if file is not None), key=lambda file: -file.made.made_at)

    def used(self, file: ReadyFile) -> None:
        """Those not used for longest go first. The time of change is left alone: it is told to clients."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(file.path, ns=(time.time_ns(), file.path.stat().st_mtime_ns))

    def prepare(self, video_id: str) -> None:
        """Make the video's folder before anything is read for a file in it. Raises VideoGoneError."""
        try:
            self._folder_of(video_id).mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise VideoGoneError from error

    def place(self, part: Path, video_id: str, made: Made) -> ReadyFile:
        """Give the finished file its place; it does not count until `announce`. Raises FramesExpiredError when the
        folder was removed since `prepare`."""
        path = self._folder_of(video_id) / f"{made.options}-{made.version}.mp4"
        try:
            part.replace(path)
        except FileNotFoundError as error:
            raise FramesExpiredError from error
        return ReadyFile(path, made)

    def announce(self, file: ReadyFile) -> None:
        """From now on the file counts. Raises VideoGoneError when it was removed meanwhile."""
        try:
            card = file.path.with_suffix(".json")
            part = card.with_suffix(".json.part")
            part.write_bytes(msgspec.json.encode(file.made))
            part.replace(card)
            sync_folder(card.parent)
        except FileNotFoundError as error:
            raise VideoGoneError from error

    def remove(self, files: Iterable[ReadyFile]) -> int:
        """Bytes freed."""
        freed = 0
        for file in files:
            file.path.with_suffix(".json").unlink(missing_ok=True)
            file.path.unlink(missing_ok=True)
            freed += file.made.size_bytes
        return freed

    def drop_older(self, file: ReadyFile, video_id: str) -> None:
        """Remove old versions of what `file` shows."""
        others = [other for other in self.find(video_id, file.made.options) if other.path != file.path]
        self.remove(others[_KEPT_OF_OPTIONS - 1 :])

    def short_of_room(self) -> bool:
        """Whether the disk lacks room for anything."""
        return self._room_bytes() < 0

    def total_bytes(self) -> int:
        return sum(file.made.size_bytes for file in self._all())

    def keep_within_bounds(self, keep: Set[Path] = frozenset()) -> int:
        """Remove files not used for longest, `keep` never, until all fit and the disk has room; bytes freed."""
        files = self._all()
        excess = sum(file.made.size_bytes for file in files) - self.most_bytes
        short = -self._room_bytes()
        freed = 0
        for file in sorted(files, key=_last_use):
            if freed >= max(excess, short):
                break
            if file.path not in keep:
                freed += self.remove([file])
        if freed:
            logger.info("annotated videos of %d MiB were removed to make room", freed >> 20)
        return freed

    def require_room(self, part: Path) -> None:
        """For a file in the making; others make room for it. Raises NoRoomError."""
        size = part.stat().st_size if part.exists() else 0
        if size > self.most_bytes:
            raise NoRoomError(
                f"the video is larger than the {self.most_bytes >> 20} MiB that annotated videos may take "
                "(VIDEO_ANALYSIS_ANNOTATED_CACHE_BYTES)"
            )
        if self.short_of_room():
            self.keep_within_bounds()
        if self.short_of_room():
            raise NoRoomError("the disk is full; ask again when there is room")

    def _all(self) -> list[ReadyFile]:
        found = (_read(path) for path in self._videos.glob("*/annotated/*.json"))
        return [file for file in found if file is not None]


def _read(card: Path) -> ReadyFile | None:
    """None for what is not, or no longer, a finished file."""
    path = card.with_suffix(".mp4")
    try:
        made = msgspec.json.decode(card.read_bytes(), type=Made)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    return ReadyFile(path, made) if path.exists() else None


def _last_use(file: ReadyFile) -> float:
    try:
        return file.path.stat().st_atime
    except FileNotFoundError:
        return 0.0
